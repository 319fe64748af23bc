/**
 * The bookkeeping of one lane while a worker has it; pure, no clock and no database. Events come in
 * position order; each user's are chained one after the other; the cursor follows the lowest event that
 * has not ended. What would break it: ending an entry that is not the head of its user's chain, or
 * trimming the window by anything but a confirmed progress.
 */
import type { DeliverableEvent } from '../destinations/definition.ts';
import type { Barrier } from '../events/stored-event.ts';

/** An event, perhaps one that must wait for another user's. */
export interface WindowEvent extends DeliverableEvent {
  readonly barriers?: readonly Barrier[] | null;
}

type EntryState = 'waiting' | 'ended' | 'skipped';

/** An event in the window. `event` is let go when it has ended, to keep a long window small. */
export class Entry {
  readonly position: number;
  readonly userKey: string;
  readonly window: LaneWindow;
  readonly barriers: readonly Barrier[] | null;
  event: DeliverableEvent | null;
  state: EntryState = 'waiting';
  next: Entry | null = null;

  constructor(event: WindowEvent, window: LaneWindow) {
    this.position = event.position;
    this.userKey = event.userKey;
    this.barriers = event.barriers ?? null;
    this.event = event;
    this.window = window;
  }
}

export type Ending = 'delivered' | 'dead' | 'filtered';

/** What has been achieved since the last confirmed progress, to be written in one go. */
export interface Progress {
  readonly from: number;
  readonly to: number;
  readonly endedAbove: readonly number[];
  readonly delivered: number;
  readonly dead: number;
  readonly filtered: number;
  /** Users whose skipped events the new cursor passes. */
  readonly skippedUsers: readonly string[];
  /** Entries at the head of the window that the new cursor passes. */
  readonly passed: number;
}

export class LaneWindow {
  /** Everything up to here is recorded as ended or belongs to a parked user. */
  cursor: number;
  /** Entries that have not ended and belong to no parked user. */
  waiting = 0;
  /** Events that ended and are not recorded yet. */
  unrecorded = 0;
  #entries: Entry[] = [];
  #head = 0;
  #tails = new Map<string, Entry>();
  #parked: Set<string>;
  #endedBefore: Set<number>;
  #endedInWindow = 0;
  #counts = { delivered: 0, dead: 0, filtered: 0 };
  /** Where the cursor goes once the window is empty: the upper bound of a feed that has been read to its end. */
  #finalPosition: number | null = null;

  constructor(cursor: number, endedAbove: readonly number[], parkedUsers: readonly string[]) {
    this.cursor = cursor;
    this.#endedBefore = new Set(endedAbove);
    this.#parked = new Set(parkedUsers);
  }

  /** Entries from the cursor on. */
  get size(): number {
    return this.#entries.length - this.#head;
  }

  /** Takes the next event in position order. Returns its entry when it may be sent now, else null. */
  add(event: WindowEvent, accepted: boolean): Entry | null {
    const entry = new Entry(event, this);
    this.#entries.push(entry);
    if (this.#endedBefore.size > 0 && this.#endedBefore.delete(entry.position)) {
      this.#close(entry);
      return null;
    }
    if (!accepted) {
      this.#close(entry);
      this.#counts.filtered++;
      this.unrecorded++;
      return null;
    }
    if (this.#parked.size > 0 && this.#parked.has(entry.userKey)) {
      entry.state = 'skipped';
      return null;
    }
    return this.#chain(entry) ? entry : null;
  }

  /** Ends the head of a user's chain. Returns the user's next entry, which may be sent now. */
  end(entry: Entry, ending: Ending): Entry | null {
    this.waiting--;
    this.unrecorded++;
    this.#counts[ending]++;
    this.#close(entry);
    const next = entry.next;
    entry.next = null;
    if (next === null) this.#tails.delete(entry.userKey);
    return next;
  }

  /** Gives a user's events, from the head of the chain on, over to the parked users. */
  park(entry: Entry): void {
    this.#parked.add(entry.userKey);
    this.#tails.delete(entry.userKey);
    for (let each: Entry | null = entry; each !== null;) {
      each.state = 'skipped';
      this.waiting--;
      const next: Entry | null = each.next;
      each.next = null;
      each = next;
    }
  }

  /** Whether the user's events are not this lane's at the moment. */
  isParked(userKey: string): boolean {
    return this.#parked.has(userKey);
  }

  /** Whether an event of the user up to this position is in the window and has not ended. */
  hasOpen(userKey: string, upTo: number): boolean {
    if (!this.#tails.has(userKey)) return false;
    for (let index = this.#head; index < this.#entries.length; index++) {
      const entry = this.#entries[index] as Entry;
      if (entry.position > upTo) return false;
      if (entry.userKey === userKey && entry.state !== 'ended') return true;
    }
    return false;
  }

  /** How many events of the same user wait from this entry on, itself included. */
  chainLength(entry: Entry): number {
    let length = 0;
    for (let each: Entry | null = entry; each !== null; each = each.next) length++;
    return length;
  }

  /** The feed has been read to its upper bound; nothing more will be added. */
  finishAt(position: number): void {
    this.#finalPosition = position;
  }

  /** True when nothing is left to send and nothing to record. */
  get isIdle(): boolean {
    return this.size === 0 && this.unrecorded === 0 && (this.#finalPosition ?? this.cursor) <= this.cursor;
  }

  /** What can be recorded now; null when nothing has changed since the last confirmed progress, unless `always`. */
  progress(always: boolean): Progress | null {
    const skippedUsers = new Set<string>();
    let index = this.#head;
    let endedPassed = 0;
    for (; index < this.#entries.length; index++) {
      const entry = this.#entries[index] as Entry;
      if (entry.state === 'ended') endedPassed++;
      else if (entry.state === 'skipped') skippedUsers.add(entry.userKey);
      else break;
    }
    const passed = index - this.#head;
    let to = passed > 0 ? (this.#entries[index - 1] as Entry).position : this.cursor;
    if (index === this.#entries.length && this.#finalPosition !== null)
      to = Math.max(to, this.#finalPosition);
    if (!always && to === this.cursor && this.unrecorded === 0) return null;
    const endedAbove: number[] = [];
    if (this.#endedInWindow > endedPassed) {
      for (; index < this.#entries.length; index++) {
        const entry = this.#entries[index] as Entry;
        if (entry.state === 'ended') endedAbove.push(entry.position);
      }
    }
    for (const position of this.#endedBefore) if (position > to) endedAbove.push(position);
    return { from: this.cursor, to, endedAbove, ...this.#counts, skippedUsers: [...skippedUsers], passed };
  }

  /** The progress has been written: forgets what it covers. */
  confirm(progress: Progress): void {
    this.cursor = progress.to;
    for (let count = 0; count < progress.passed; count++) {
      if ((this.#entries[this.#head + count] as Entry).state === 'ended') this.#endedInWindow--;
    }
    this.#head += progress.passed;
    if (this.#head > 1024 && this.#head * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    } else if (this.#head === this.#entries.length) {
      this.#entries.length = 0;
      this.#head = 0;
    }
    for (const position of this.#endedBefore) if (position <= progress.to) this.#endedBefore.delete(position);
    this.#counts.delivered -= progress.delivered;
    this.#counts.dead -= progress.dead;
    this.#counts.filtered -= progress.filtered;
    this.unrecorded -= progress.delivered + progress.dead + progress.filtered;
  }

  /**
   * The users parked as of the last write. Skipped events of users who are no longer parked come back;
   * those that may be sent now are returned, in position order. `pending` users are parked here and not written yet.
   */
  setParked(parked: readonly string[], pending: ReadonlySet<string>): Entry[] {
    this.#parked = new Set(parked);
    for (const userKey of pending) this.#parked.add(userKey);
    const ready: Entry[] = [];
    for (let index = this.#head; index < this.#entries.length; index++) {
      const entry = this.#entries[index] as Entry;
      if (entry.state !== 'skipped' || this.#parked.has(entry.userKey)) continue;
      entry.state = 'waiting';
      if (this.#chain(entry)) ready.push(entry);
    }
    return ready;
  }

  #chain(entry: Entry): boolean {
    this.waiting++;
    const tail = this.#tails.get(entry.userKey);
    this.#tails.set(entry.userKey, entry);
    if (tail === undefined) return true;
    tail.next = entry;
    return false;
  }

  #close(entry: Entry): void {
    entry.state = 'ended';
    entry.event = null;
    this.#endedInWindow++;
  }
}
