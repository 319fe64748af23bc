/**
 * One feed while this process has lanes of it: lines entries up for the dispatcher, and takes
 * the outcomes into the lanes' windows. It never writes: progress, parked users and dead letters gather on
 * the lanes until the engine records them all in one statement.
 */
import type { Slice } from '../events/read-slice.ts';
import type { StoredEvent } from '../events/stored-event.ts';
import type { DeliverableEvent, Outcome } from '../destinations/definition.ts';
import type { Sql } from '../db/client.ts';
import { Queue } from '../lib/queue.ts';
import type { Log } from '../lib/log.ts';
import { isWanted } from '../routing/integrations.ts';
import { retryDelayMs } from './backoff.ts';
import { BarredEntries, waitsForOthers } from './barriers.ts';
import { type Dispatcher, type Lineup, stopped, type Task } from './dispatcher.ts';
import { deadLetterOf, type LaneRun } from './lane-run.ts';
import type { Entry } from './lane-window.ts';
import type { OpenFeed } from './open-feed.ts';
import { Rate } from './rate.ts';
import { lowMark, ReadAhead, type Tail } from './read-ahead.ts';

/** A lane that could not be read on for this long is held up by its busiest user. */
const heldUpMs = 1_000;
/** How often events that wait for others are looked at. */
const reviewMs = 25;
const hasTooMany =
  'Not a failure: it has so many events that it is delivered apart from its lane until it has caught up.';

interface FeedRunDeps {
  readonly sql: Sql;
  readonly log: Log;
  readonly dispatcher: Dispatcher;
  /** Something can be recorded. */
  readonly progressed: () => void;
  /** The destination refused us as a whole. */
  readonly refused: (reason: string, destinationId: number) => void;
}

export class FeedRun implements Lineup {
  /** Replaced when the destination's settings change. */
  feed: OpenFeed;
  readonly kind: 'live' | 'replay';
  readonly replayId: string | null;
  readonly lanes = new Map<number, LaneRun>();
  readonly slice: Slice;
  readonly dispatcher: Dispatcher;
  inFlight = 0;
  /** Nothing new is read or sent; what is in flight ends. */
  stopping = false;
  readonly rate: Rate;
  readonly #deps: FeedRunDeps;
  readonly #ready = new Queue<Entry>();
  readonly #barred: BarredEntries;
  readonly #ahead: ReadAhead;
  #reviewing = false;

  constructor(feed: OpenFeed, deps: FeedRunDeps) {
    this.feed = feed;
    this.kind = feed.kind;
    this.replayId = feed.replayId;
    this.slice = { feedId: feed.id, listed: feed.listed, upTo: feed.toPosition, condition: feed.condition };
    this.rate = new Rate({
      sql: deps.sql,
      log: deps.log,
      feedId: feed.id,
      ratePerSecond: feed.ratePerSecond,
      granted: () => deps.dispatcher.pump(),
    });
    this.dispatcher = deps.dispatcher;
    this.#deps = deps;
    this.#ahead = new ReadAhead(deps.sql, deps.log, this);
    this.#barred = new BarredEntries(deps.sql, feed.id, this.lanes);
    deps.dispatcher.attach(this);
  }

  add(lane: LaneRun): void {
    this.lanes.set(lane.lane, lane);
    this.fill();
  }

  /** The dispatcher asks for the next task. */
  next(): Task | undefined {
    if (this.stopping) return undefined;
    if (this.#ready.length === 0 || !this.rate.take()) return undefined;
    for (;;) {
      const entry = this.#ready.shift();
      if (entry === undefined) {
        this.rate.giveBack();
        return undefined;
      }
      if ((entry.window as LaneRun).lost || entry.state !== 'waiting') continue;
      this.inFlight++;
      return new LaneTask(this, entry);
    }
  }

  /** There may be new events: lanes that were read to their end are read again. */
  lookAgain(): void {
    for (const lane of this.lanes.values()) lane.exhausted = false;
    this.fill();
  }

  /** Puts entries that may be sent into the line. */
  lineUp(entries: readonly Entry[]): void {
    for (const entry of entries) this.admit(entry);
    this.#admitFree();
    this.dispatcher.pump();
  }

  /** Puts an entry in line that is its user's next, or holds it behind its barriers. */
  admit(entry: Entry): void {
    if (entry.barriers === null) this.#ready.push(entry);
    else this.#barred.hold(entry);
  }

  /** Entries whose barriers have been passed get in line; the others are looked at again soon. */
  #admitFree(): void {
    if (this.#barred.size === 0) return;
    for (const entry of this.#barred.release()) this.#ready.push(entry);
    if (this.#barred.size === 0 || this.#reviewing || this.stopping) return;
    this.#reviewing = true;
    setTimeout(() => void this.#review(), reviewMs).unref();
  }

  async #review(): Promise<void> {
    try {
      const { free, park } = await this.#barred.review();
      for (const entry of free) this.#ready.push(entry);
      for (const entry of park)
        this.#setAside(entry.window as LaneRun, entry, { why: waitsForOthers, delayMs: 100 });
      if (park.length > 0) this.#deps.progressed();
    } catch (error) {
      this.#deps.log.warn({ feedId: this.feed.id, err: error }, 'looking at barriers failed; trying again');
    }
    this.#reviewing = false;
    this.#admitFree();
    this.dispatcher.pump();
  }

  /** Reads on for the lanes that run low. */
  fill(): void {
    this.#ahead.fill();
  }

  /** New events at the end of the log, read once for all live feeds; false when no lane took them. */
  takeTail(tail: Tail): boolean {
    return !this.stopping && this.#ahead.takeTail(tail);
  }

  /** See Reader in read-ahead.ts. */
  taken(closed: boolean): void {
    this.#admitFree();
    if (closed) this.#deps.progressed();
    this.dispatcher.pump();
  }

  /** Whether the destination takes this event; what it does not take ends as filtered. */
  accepts(event: StoredEvent): boolean {
    return this.feed.accepts.has(event.type) && isWanted(event, this.feed.names);
  }

  /** The outcome of a lane's task. */
  ended(entry: Entry, event: DeliverableEvent, outcome: Outcome): void {
    this.inFlight--;
    const lane = entry.window as LaneRun;
    if (lane.lost) return;
    if (outcome === stopped) {
      this.#ready.push(entry);
      return;
    }
    if (outcome.kind === 'delivered') {
      this.#advance(lane, lane.end(entry, 'delivered'));
    } else if (outcome.kind === 'rejected' && outcome.destination) {
      // A wrong key must not empty the backlog into dead letters: the event stays, the destination stands.
      this.#ready.push(entry);
      this.#deps.refused(outcome.reason, this.feed.destinationId);
      return;
    } else if (outcome.kind === 'rejected' && !this.feed.blocksOnRejection) {
      lane.deads.push(deadLetterOf(event, outcome, 1));
      this.#advance(lane, lane.end(entry, 'dead'));
    } else if (outcome.kind === 'retry' && this.dispatcher.keepsInLine(outcome)) {
      // Not this user's fault; it goes to the end of the line, so that another one is the next probe.
      this.#ready.push(entry);
      return;
    } else {
      this.#park(lane, entry, outcome);
    }
    if (this.#barred.awaits(entry.userKey)) this.#admitFree();
    this.#deps.progressed();
  }

  #advance(lane: LaneRun, next: Entry | null): void {
    if (next && this.#holdsUp(lane, next)) this.#setAside(lane, next, { why: hasTooMany, delayMs: 0 });
    else if (next) this.admit(next);
    if (!this.#ahead.isReading && !lane.exhausted && lane.waiting < lowMark) this.fill();
  }

  /**
   * A user with a long backlog and slow calls fills the lane's read-ahead, and nobody behind is even seen. Under a
   * rate limit everybody is slow, and nobody is to blame.
   */
  #holdsUp(lane: LaneRun, next: Entry): boolean {
    if (this.rate.ratePerSecond !== null) return false;
    if (lane.waiting < lowMark || lane.exhausted || Date.now() - lane.lastReadAt < heldUpMs) return false;
    return lane.chainLength(next) * 2 > lane.waiting;
  }

  /** Such a user goes on apart, as parked users do, and comes back when it has caught up. */
  #setAside(lane: LaneRun, next: Entry, { why, delayMs }: { why: string; delayMs: number }): void {
    const { userKey, position } = next;
    lane.parks.set(userKey, {
      userKey,
      position,
      delayMs,
      attempts: 0,
      error: why,
      status: null,
      blocked: false,
    });
    lane.park(next);
  }

  #park(lane: LaneRun, entry: Entry, outcome: Exclude<Outcome, { kind: 'delivered' }>): void {
    const throttled = outcome.kind === 'retry' && outcome.retryAfterMs !== undefined;
    lane.parks.set(entry.userKey, {
      userKey: entry.userKey,
      position: entry.position,
      delayMs: throttled ? outcome.retryAfterMs : retryDelayMs(1, this.feed.retryPolicy, Math.random),
      // Being told when to come back uses up no try.
      attempts: throttled ? 0 : 1,
      error: outcome.reason,
      status: outcome.status ?? null,
      blocked: outcome.kind === 'rejected',
    });
    lane.park(entry);
    if (!lane.exhausted) this.fill();
  }
}

class LaneTask implements Task {
  readonly event: DeliverableEvent;
  readonly #run: FeedRun;
  readonly #entry: Entry;

  constructor(run: FeedRun, entry: Entry) {
    this.#run = run;
    this.#entry = entry;
    this.event = entry.event as DeliverableEvent;
  }

  ended(outcome: Outcome): void {
    this.#run.ended(this.#entry, this.event, outcome);
  }
}
