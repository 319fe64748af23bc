/**
 * Lanes at the end of the log: they look for new events every 20 ms while events come in, at once when this
 * process appended some, and fall asleep when none came for two seconds. Falling asleep is committed before
 * the last look, and an append wakes sleeping lanes after its commit, so one always sees the other.
 */
import type { Sql } from '../db/client.ts';
import { readLanes } from '../events/read-slice.ts';
import type { Log } from '../lib/log.ts';
import type { FeedRun } from './feed-run.ts';
import type { LaneRun } from './lane-run.ts';

const pollMs = 20;
const lingerMs = 2_000;
/** The position sequence moves before the events are committed: go on looking for this long. */
const commitMs = 300;

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

  constructor(deps: LogFollowerDeps) {
    this.#deps = deps;
    this.#timer = setInterval(() => void this.#poll(), pollMs);
  }

  lookNow(): void {
    for (const run of this.#deps.runs()) run.lookAgain();
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
