/**
 * Delivery in one worker process: which lanes and parked users it has, for how long, and what happens to
 * them. A job only wakes; from then on the lease in the database decides. Everything started here ends in
 * `stop`, which finishes what is in flight, records it and lets the lanes go.
 */
import { randomUUID } from 'node:crypto';
import type { Sql } from '../db/client.ts';
import type { Catalogue } from '../destinations/catalogue.ts';
import type { Log } from '../lib/log.ts';
import type { ReadSecret } from '../routing/destinations.ts';
import { Dispatchers } from './dispatchers.ts';
import { Drain } from './drain.ts';
import { FeedRun } from './feed-run.ts';
import { Heartbeat } from './heartbeat.ts';
import { LaneRun } from './lane-run.ts';
import { LogFollower } from './log-follower.ts';
import { loadFeed } from './open-feed.ts';
import { ProgressWriter } from './progress-writer.ts';
import type { Requester } from './request.ts';
import { UserRun } from './retry-user.ts';

/** A worker that is gone loses its lanes this long after its last sign of life. */
export const leaseMs = 3_000;
/** How long `stop` waits for calls in flight before it gives them up. */
const longestDrainMs = 20_000;

export interface EngineDeps {
  readonly sql: Sql;
  readonly log: Log;
  readonly catalogue: Catalogue;
  readonly readSecret: ReadSecret;
  readonly request: Requester['request'];
  /** How long `stop` waits for calls in flight; 20 s if absent. */
  readonly drainMs?: number;
}

interface LaneRow {
  cursor: number;
  ended_above: number[];
  parked_version: number;
  revision: number;
  waiting: string[];
}

interface UserRow {
  lane: number;
  from_position: number;
  attempts: number;
  failing_ms: number;
}

export class Engine {
  readonly workerId = `${process.pid}-${randomUUID().slice(0, 8)}`;
  readonly #deps: EngineDeps;
  readonly #runs = new Map<number, Promise<FeedRun | null>>();
  readonly #opened = new Map<number, FeedRun>();
  readonly #dispatchers: Dispatchers;
  readonly #users = new Set<UserRun>();
  readonly #working = new Set<Promise<void>>();
  readonly #writer: ProgressWriter;
  readonly #heartbeat: Heartbeat;
  readonly #follower: LogFollower;
  readonly #drain: Drain;
  #takes = 0;
  #stopping = false;

  constructor(deps: EngineDeps) {
    this.#deps = deps;
    const runs = () => this.#opened.values();
    this.#writer = new ProgressWriter({
      sql: deps.sql,
      log: deps.log,
      leaseMs,
      runs,
      lost: (run, lane) => this.#lose(run, lane),
      written: () => this.#afterWrite(),
    });
    this.#heartbeat = new Heartbeat({
      sql: deps.sql,
      log: deps.log,
      leaseMs,
      runs,
      users: () => this.#users,
      lost: (run, lane) => this.#lose(run, lane),
      held: (run) => this.#drain.stop(run),
      changed: (run) => this.#reload(run),
      renewed: () => this.#dispatchers.pump(),
    });
    this.#dispatchers = new Dispatchers({
      request: deps.request,
      maySend: () => this.#heartbeat.isFresh && !this.#writer.isBehind,
    });
    this.#follower = new LogFollower({
      sql: deps.sql,
      log: deps.log,
      runs: () => [...runs()].filter((run) => run.kind === 'live' && run.lanes.size > 0 && !run.stopping),
      sleep: (run, lanes) => this.#release(run, lanes, false),
    });
    this.#drain = new Drain({
      log: deps.log,
      writer: this.#writer,
      users: () => this.#users,
      giveUp: () => this.#dispatchers.close(),
      closed: ({ feed }) => {
        this.#opened.delete(feed.id);
        this.#runs.delete(feed.id);
      },
      release: (run, lanes, awake) => this.#release(run, lanes, awake),
    });
  }

  /** Job `drain-lane`: takes the lane if nobody has it. */
  async takeLane(feedId: number, lane: number): Promise<void> {
    const run = await this.#open(feedId);
    if (!run || run.stopping || this.#stopping || run.lanes.has(lane)) return;
    const owner = this.#newOwner();
    const askedAt = performance.now();
    const [row] = await this.#deps.sql<LaneRow[]>`
      select * from repeater.take_lane(${feedId}::integer, ${lane}::smallint, ${owner}::text,
        make_interval(secs => ${leaseMs / 1_000}))`;
    if (!row) return;
    const taken = new LaneRun(lane, owner, {
      cursor: row.cursor,
      endedAbove: row.ended_above,
      version: row.parked_version,
      revision: row.revision,
      waiting: row.waiting,
    });
    this.#heartbeat.begin(askedAt);
    if (run.stopping || this.#stopping) return this.#release(run, [taken], true);
    run.add(taken);
  }

  /** Job `retry-user`: takes a parked user if it is due and nobody has it. */
  async takeUser(feedId: number, userKey: string): Promise<void> {
    const run = await this.#open(feedId);
    if (!run || run.stopping || this.#stopping) return;
    const owner = this.#newOwner();
    const askedAt = performance.now();
    const [row] = await this.#deps.sql<UserRow[]>`
      select * from repeater.take_user(${feedId}::integer, ${userKey}::text, ${owner}::text,
        make_interval(secs => ${leaseMs / 1_000}))`;
    if (!row) return;
    this.#heartbeat.begin(askedAt);
    const taken = {
      userKey,
      owner,
      lane: row.lane,
      fromPosition: row.from_position,
      attempts: row.attempts,
      failingMs: row.failing_ms,
    };
    const user = new UserRun(this.#deps.sql, run, taken, (reason) =>
      this.#refused(reason, run.feed.destinationId),
    );
    this.#users.add(user);
    const work = user
      .work()
      .catch((error: unknown) =>
        this.#deps.log.warn({ feedId, err: error }, 'retrying a user failed; the sweep wakes it again'),
      )
      .finally(() => {
        this.#users.delete(user);
        this.#working.delete(work);
      });
    this.#working.add(work);
  }

  /** Events were just committed by this process: lanes at the end of the log look at once. */
  poke(): void {
    this.#follower.lookNow();
  }

  /** Waits for calls in flight, records them, lets lanes and users go. At most about 20 s. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#follower.stop();
    this.#drain.giveUpAfter(this.#deps.drainMs ?? longestDrainMs);
    await Promise.all([...this.#opened.values()].map((run) => this.#drain.stop(run)));
    await Promise.all(this.#working);
    await this.#heartbeat.stop();
    this.#dispatchers.close();
  }

  #newOwner(): string {
    return `${this.workerId}:${++this.#takes}`;
  }

  #open(feedId: number): Promise<FeedRun | null> {
    let opening = this.#runs.get(feedId);
    if (opening === undefined) {
      opening = this.#load(feedId).catch((error: unknown) => {
        this.#runs.delete(feedId);
        throw error;
      });
      this.#runs.set(feedId, opening);
    }
    return opening;
  }

  async #load(feedId: number): Promise<FeedRun | null> {
    const feed = await loadFeed(this.#deps.sql, feedId, this.#deps);
    if (!feed) {
      this.#runs.delete(feedId);
      return null;
    }
    const run = new FeedRun(feed, {
      sql: this.#deps.sql,
      log: this.#deps.log,
      dispatcher: this.#dispatchers.for(feed),
      progressed: () => this.#writer.progressed(),
      refused: (reason, destinationId) => this.#refused(reason, destinationId),
    });
    this.#opened.set(feedId, run);
    return run;
  }

  #afterWrite(): void {
    this.#dispatchers.pump();
    for (const run of this.#opened.values()) {
      const done =
        run.kind === 'replay'
          ? [...run.lanes.values()].filter((lane) => lane.isIdle && lane.exhausted && lane.parks.size === 0)
          : [];
      if (done.length === 0) continue;
      void this.#release(run, done, false)
        .then(() => this.#deps.sql`select repeater.finish_replays()`)
        .catch((error: unknown) => {
          this.#deps.log.warn(
            { feedId: run.feed.id, err: error },
            'ending a replay failed; the sweep does it',
          );
        });
    }
  }

  async #release(run: FeedRun, lanes: readonly LaneRun[], awake: boolean): Promise<void> {
    for (const lane of lanes) this.#forget(run, lane);
    await this.#deps.sql`
      select repeater.release_lanes(${lanes.map(() => run.feed.id)}::integer[], ${lanes.map((lane) => lane.lane)}::smallint[],
        ${lanes.map((lane) => lane.owner)}::text[], ${awake}::boolean)`;
  }

  #forget(run: FeedRun, lane: LaneRun): void {
    lane.lost = true;
    if (run.lanes.get(lane.lane) === lane) run.lanes.delete(lane.lane);
  }

  #lose(run: FeedRun, lane: LaneRun): void {
    if (lane.lost) return;
    this.#deps.log.warn({ feedId: run.feed.id, lane: lane.lane }, 'a lane was taken over by another worker');
    this.#forget(run, lane);
  }

  /** A key that is refused stops the whole destination, here at once and everywhere within a second. */
  #refused(reason: string, destinationId: number): void {
    const runs = [...this.#opened.values()].filter(
      (run) => run.feed.destinationId === destinationId && !run.stopping,
    );
    if (runs.length === 0) return;
    this.#deps.log.warn({ destinationId, reason }, 'the destination refused us; it is paused');
    for (const run of runs) run.stopping = true;
    this.#deps.sql`select repeater.pause_destination(${destinationId}::integer, ${reason}::text)`.then(
      () => runs.forEach((run) => void this.#drain.stop(run)),
      (error: unknown) => {
        this.#deps.log.error({ destinationId, err: error }, 'pausing the destination failed');
        runs.forEach((run) => void this.#drain.stop(run));
      },
    );
  }

  /** Settings changed: they hold from the next call on. */
  async #reload(run: FeedRun): Promise<void> {
    const feed = await loadFeed(this.#deps.sql, run.feed.id, this.#deps);
    if (!feed) return this.#drain.stop(run);
    run.feed = feed;
    run.rate.ratePerSecond = feed.ratePerSecond;
    this.#dispatchers.for(feed);
    run.dispatcher.pump();
  }
}
