/**
 * Keeps the windows of a feed's lanes filled: each lane that runs low reads on from where it is, all of them in one
 * statement; lanes at the end of the log take the pages that the process reads once for all its live feeds. A lane's
 * `readThrough` is a promise: every event up to there that will ever exist is in its window or behind it.
 */
import type { Sql } from '../db/client.ts';
import { readLanes, type Slice } from '../events/read-slice.ts';
import type { StoredEvent } from '../events/stored-event.ts';
import type { Log } from '../lib/log.ts';
import type { LaneRun } from './lane-run.ts';
import type { Entry } from './lane-window.ts';

/** Read on when fewer events than this are waiting in a lane. Four times as many cost 50 MB and gained nothing. */
export const lowMark = 32;
/** Most events read for one lane, and for all lanes in one statement. */
const lanePage = 64;
const feedPage = 2_048;
/** Longest window of a lane, from the cursor on: a call that takes a second must not stop the lane before. */
const maxWindow = 4_096;

/** A page of the end of the log: every event of some lanes from one position (exclusive) to another. */
export interface Tail {
  readonly byLane: ReadonlyMap<number, readonly StoredEvent[]>;
  readonly asked: ReadonlySet<LaneRun>;
  readonly from: number;
  readonly to: number;
}

/** What is read for. */
interface Reader {
  readonly feed: { readonly id: number; readonly toPosition: number | null };
  readonly lanes: ReadonlyMap<number, LaneRun>;
  readonly slice: Slice;
  readonly stopping: boolean;
  accepts(event: StoredEvent): boolean;
  /** An event that is its user's next. */
  admit(entry: Entry): void;
  /** A page is in the windows; `closed`: something can be recorded without a call. */
  taken(closed: boolean): void;
}

export class ReadAhead {
  readonly #sql: Sql;
  readonly #log: Log;
  readonly #reader: Reader;
  #reading = false;
  /** Highest position seen so far: everything below it had been committed. */
  #seen = 0;

  constructor(sql: Sql, log: Log, reader: Reader) {
    this.#sql = sql;
    this.#log = log;
    this.#reader = reader;
  }

  get isReading(): boolean {
    return this.#reading;
  }

  /** Reads on for the lanes that run low, one statement at a time. */
  fill(): void {
    if (this.#reading || this.#reader.stopping) return;
    const hungry: LaneRun[] = [];
    for (const lane of this.#reader.lanes.values()) {
      if (!lane.exhausted && hasRoom(lane)) hungry.push(lane);
    }
    if (hungry.length === 0) return;
    this.#reading = true;
    this.#read(hungry).then(
      () => {
        this.#reading = false;
        this.fill();
      },
      (error: unknown) => {
        const { feed } = this.#reader;
        this.#log.warn({ feedId: feed.id, err: error }, 'reading events failed; trying again');
        setTimeout(() => {
          this.#reading = false;
          this.fill();
        }, 250).unref();
      },
    );
  }

  /**
   * Gives the lanes at the end of the log a page of it; the others have fallen behind and read on by themselves.
   * False when none took it.
   */
  takeTail({ byLane, asked, from, to }: Tail): boolean {
    let closed = false;
    let took = false;
    this.#seen = Math.max(this.#seen, to);
    for (const lane of this.#reader.lanes.values()) {
      // One that came meanwhile is not in the page.
      if (!asked.has(lane)) continue;
      if (!lane.exhausted || lane.readThrough < from || !hasRoom(lane)) {
        lane.exhausted = false;
        continue;
      }
      took = true;
      for (const event of byLane.get(lane.lane) ?? []) {
        if (event.position > lane.readTo && !this.#take(lane, event)) closed = true;
      }
      lane.readThrough = Math.max(lane.readThrough, to);
    }
    this.#reader.taken(closed);
    this.fill();
    return took;
  }

  async #read(hungry: readonly LaneRun[]): Promise<void> {
    const { slice, feed } = this.#reader;
    const limit = Math.max(32, Math.min(lanePage, Math.floor(feedPage / hungry.length)));
    // Seen before the statement began, so committed before what it sees.
    let through = this.#seen;
    const events = await readLanes(this.#sql, slice, {
      lanes: hungry.map((lane) => lane.lane),
      after: hungry.map((lane) => lane.readTo),
      limit,
    });
    for (const event of events) if (event.position > through) through = event.position;
    this.#seen = Math.max(this.#seen, through);
    // Not the reader's lanes: one may have been lost and had back meanwhile, and then it reads from its cursor again.
    const asked = new Map(hungry.map((lane) => [lane.lane, lane]));
    const counts = new Map<number, number>();
    let closed = false;
    for (const event of events) {
      const lane = asked.get(event.lane);
      if (!lane || lane.lost) continue;
      counts.set(event.lane, (counts.get(event.lane) ?? 0) + 1);
      if (!this.#take(lane, event)) closed = true;
    }
    for (const lane of hungry) {
      lane.readThrough = Math.max(lane.readThrough, lane.readTo);
      if ((counts.get(lane.lane) ?? 0) === limit) continue;
      lane.exhausted = true;
      lane.readThrough = Math.max(lane.readThrough, feed.toPosition ?? through);
      if (feed.toPosition === null) continue;
      lane.finishAt(feed.toPosition);
      closed = true;
    }
    this.#reader.taken(closed);
  }

  /** False when the event has ended already or waits with its parked user. */
  #take(lane: LaneRun, event: StoredEvent): boolean {
    lane.readTo = event.position;
    lane.lastReadAt = Date.now();
    const entry = lane.add(event, this.#reader.accepts(event));
    if (entry) this.#reader.admit(entry);
    return entry !== null;
  }
}

function hasRoom(lane: LaneRun): boolean {
  return lane.waiting < lowMark && lane.size < maxWindow;
}
