/**
 * Lanes at the end of the log: new events are looked for every 20 ms while events come in, at once when this
 * process appended some, and read once for all live feeds (with two feeds that took a sixth off the cost of
 * accepting and delivering an event). Lanes fall asleep when none came for two seconds. Falling asleep is committed
 * before the last look, and an append wakes sleeping lanes after its commit, so one always sees the other.
 */
import type { Sql } from '../db/client.ts';
import { readLanes } from '../events/read-slice.ts';
import { readTail } from '../events/read-tail.ts';
import { toError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import type { FeedRun } from './feed-run.ts';
import type { LaneRun } from './lane-run.ts';

const pollMs = 20;
const lingerMs = 2_000;
/** The position sequence moves before the events are committed: go on looking for this long. */
const commitMs = 300;
const tailPage = 1_024;
const freshMs = 1_000;

interface LogFollowerDeps {
  readonly sql: Sql;
  readonly log: Log;
  /** Live feeds with lanes here. */
  readonly runs: () => readonly FeedRun[];
  /** Lets lanes go, asleep. */
  readonly sleep: (run: FeedRun, lanes: readonly LaneRun[]) => Promise<void>;
}

export class LogFollower {
  readonly #deps: LogFollowerDeps;
  readonly #timer: NodeJS.Timeout;
  #polling = false;
  #head = 0;
  #headMovedAt = 0;
  /** Position up to which the end of the log has been read. */
  #tail = 0;
  #tailReadAt = -Infinity;
  #looking: Promise<void> | null = null;
  #lookAgain = false;

  constructor(deps: LogFollowerDeps) {
    this.#deps = deps;
    this.#timer = setInterval(() => void this.#poll(), pollMs);
  }

  /** There may be new events. */
  lookNow(): void {
    if (this.#looking) {
      this.#lookAgain = true;
      return;
    }
    this.#looking = this.#look()
      .catch((error: unknown) => {
        this.#deps.log.debug(
          { err: toError(error) },
          'reading the end of the log failed; each lane reads for itself',
        );
        for (const run of this.#deps.runs()) run.lookAgain();
      })
      .finally(() => {
        this.#looking = null;
        if (!this.#lookAgain) return;
        this.#lookAgain = false;
        this.lookNow();
      });
  }

  async #look(): Promise<void> {
    for (let isFull = true; isFull;) {
      const lanes = new Set(this.#deps.runs().flatMap((run) => [...run.lanes.values()]));
      if (lanes.size === 0) return;
      const from = this.#placeOf(lanes);
      const events = await readTail(this.#deps.sql, {
        lanes: [...new Set([...lanes].map(({ lane }) => lane))],
        after: from,
        limit: tailPage,
      });
      const to = events.at(-1)?.position ?? from;
      const tail = { byLane: Map.groupBy(events, ({ lane }) => lane), asked: lanes, from, to };
      let took = false;
      for (const run of this.#deps.runs()) took = run.takeTail(tail) || took;
      if (!took) return;
      this.#tail = to;
      this.#tailReadAt = performance.now();
      isFull = events.length === tailPage;
    }
  }

  /**
   * Where to read from: where the last page ended, also if some lanes have read further by themselves. After a pause
   * it is the furthest any lane has come, and the others catch up by themselves.
   */
  #placeOf(lanes: ReadonlySet<LaneRun>): number {
    if (performance.now() - this.#tailReadAt < freshMs) return this.#tail;
    let furthest = 0;
    for (const lane of lanes) furthest = Math.max(furthest, lane.readThrough);
    return furthest;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #poll(): Promise<void> {
    if (this.#polling) return;
    const runs = this.#deps.runs();
    if (runs.length === 0) return;
    this.#polling = true;
    try {
      const [row] = await this.#deps.sql<
        { head: number }[]
      >`select last_value as head from repeater.event_position`;
      const head = row?.head ?? 0;
      if (head !== this.#head) this.#headMovedAt = performance.now();
      this.#head = head;
      if (performance.now() - this.#headMovedAt < commitMs) this.lookNow();
      for (const run of runs) await this.#putToSleep(run);
    } catch (error) {
      this.#deps.log.debug({ err: error }, 'looking for new events failed; trying again');
    } finally {
      this.#polling = false;
    }
  }

  async #putToSleep(run: FeedRun): Promise<void> {
    const before = Date.now() - lingerMs;
    const idle = [...run.lanes.values()].filter(
      (lane) => lane.isIdle && lane.exhausted && lane.parks.size === 0 && lane.lastReadAt < before,
    );
    if (idle.length === 0) return;
    await this.#deps.sleep(run, idle);
    const missed = await readLanes(this.#deps.sql, run.slice, {
      lanes: idle.map((lane) => lane.lane),
      after: idle.map((lane) => lane.readTo),
      limit: 1,
    });
    if (missed.length === 0) return;
    await this.#deps.sql`select repeater.wake_lanes(${missed.map((event) => event.lane)}::smallint[])`;
  }
}
