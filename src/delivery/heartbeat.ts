/**
 * Once a second: renews the leases of this process and asks whether its feeds may still send. Until a
 * renewal is known to have worked recently enough, nothing new is sent: a process that was stopped or cut
 * off must not go on as if its lanes were still its own.
 */
import type { Sql } from '../db/client.ts';
import type { Log } from '../lib/log.ts';
import type { FeedRun } from './feed-run.ts';
import type { LaneRun } from './lane-run.ts';
import type { UserRun } from './retry-user.ts';

const beatMs = 1_000;
/** A lease counts from when it was asked for, and ends here so much earlier than in the database. */
const marginMs = 500;

interface HeartbeatDeps {
  readonly sql: Sql;
  readonly log: Log;
  readonly leaseMs: number;
  readonly runs: () => Iterable<FeedRun>;
  readonly users: () => Iterable<UserRun>;
  readonly lost: (run: FeedRun, lane: LaneRun) => void;
  /** The feed may not send any more: paused, cancelled, disabled, deleted, held by a replay. */
  readonly held: (run: FeedRun) => Promise<void>;
  /** The settings of the feed's destination, or its rate, are new. */
  readonly changed: (run: FeedRun) => Promise<void>;
  readonly renewed: () => void;
}

interface FeedState {
  id: number;
  deliverable: boolean;
  version: number;
  rate: number | null;
}

export class Heartbeat {
  readonly #deps: HeartbeatDeps;
  readonly #timer: NodeJS.Timeout;
  #freshUntil = 0;
  /** When the oldest lease was asked for that the renewal under way does not cover; Infinity: none. */
  #oldestTake = Infinity;
  #beating: Promise<void> | null = null;

  constructor(deps: HeartbeatDeps) {
    this.#deps = deps;
    this.#timer = setInterval(() => this.#tick(), beatMs);
  }

  /** Whether the leases of this process are known to be good. Monotonic: a change of the wall clock does nothing. */
  get isFresh(): boolean {
    return performance.now() < this.#freshUntil;
  }

  /**
   * A lease was taken that had been asked for at this time. The answer may have been long under way, or this process
   * stopped before it read it, and the lease may have run out: until the next renewal nothing is sent beyond its end.
   */
  begin(askedAt: number): void {
    const freshUntil = askedAt + this.#deps.leaseMs - marginMs;
    this.#oldestTake = Math.min(this.#oldestTake, askedAt);
    this.#freshUntil = this.#isAlone() ? freshUntil : Math.min(this.#freshUntil, freshUntil);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#beating;
  }

  #isAlone(): boolean {
    for (const run of this.#deps.runs()) if (run.lanes.size > 0) return false;
    for (const user of this.#deps.users()) if (!user.lost) return false;
    return true;
  }

  #tick(): void {
    if (this.#beating) return;
    this.#beating = this.#beat()
      .catch((error: unknown) =>
        this.#deps.log.warn({ err: error }, 'renewing leases failed; nothing is sent until it works'),
      )
      .finally(() => (this.#beating = null));
  }

  async #beat(): Promise<void> {
    const runs = [...this.#deps.runs()];
    const lanes = runs.flatMap((run) => [...run.lanes.values()].map((lane) => ({ run, lane })));
    const users = [...this.#deps.users()];
    if (runs.length === 0 && users.length === 0) return;
    const startedAt = performance.now();
    this.#oldestTake = Infinity;
    const owners = await this.#deps.sql<{ owner: string }[]>`
      select owner from repeater.renew_leases(
        ${lanes.map(({ run }) => run.feed.id)}::integer[], ${lanes.map(({ lane }) => lane.lane)}::smallint[],
        ${lanes.map(({ lane }) => lane.owner)}::text[], ${users.map((user) => user.run.feed.id)}::integer[],
        ${users.map((user) => user.user.userKey)}::text[], ${users.map((user) => user.user.owner)}::text[],
        make_interval(secs => ${this.#deps.leaseMs / 1_000})) as owner`;
    const held = new Set(owners.map((row) => row.owner));
    for (const { run, lane } of lanes) if (!held.has(lane.owner)) this.#deps.lost(run, lane);
    for (const user of users) if (!held.has(user.user.owner)) user.lost = true;
    await this.#checkFeeds(runs);
    this.#freshUntil = Math.min(startedAt, this.#oldestTake) + this.#deps.leaseMs - marginMs;
    this.#deps.renewed();
  }

  async #checkFeeds(runs: readonly FeedRun[]): Promise<void> {
    const states = await this.#deps.sql<FeedState[]>`
      select f.id, repeater.is_deliverable(f.id) as deliverable, d.version, f.rate_per_second as rate
      from repeater.feeds f join repeater.destinations d on d.id = f.destination_id
      where f.id = any(${runs.map((run) => run.feed.id)}::integer[])`;
    for (const run of runs) {
      const state = states.find((each) => each.id === run.feed.id);
      if (!state?.deliverable) void this.#deps.held(run);
      else if (state.version !== run.feed.version || state.rate !== run.rate.ratePerSecond)
        await this.#deps.changed(run);
    }
  }
}
