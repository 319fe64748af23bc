/**
 * How a feed ends in this process, because it was paused, replaced or refused, or because the process ends: nothing
 * new is sent, what is in flight ends and is recorded, and only then its lanes are let go, still awake.
 */
import type { Log } from '../lib/log.ts';
import type { FeedRun } from './feed-run.ts';
import type { LaneRun } from './lane-run.ts';
import type { ProgressWriter } from './progress-writer.ts';
import type { UserRun } from './retry-user.ts';

const lookMs = 10;
/** How long calls that were given up may take to end. */
const giveUpMs = 1_000;

interface DrainDeps {
  readonly log: Log;
  readonly writer: ProgressWriter;
  readonly users: () => Iterable<UserRun>;
  /** Gives up every call in flight. */
  readonly giveUp: () => void;
  /** The feed has ended here; its lanes are still held. */
  readonly closed: (run: FeedRun) => void;
  readonly release: (run: FeedRun, lanes: readonly LaneRun[], awake: boolean) => Promise<void>;
}

export class Drain {
  readonly #deps: DrainDeps;
  readonly #draining = new Map<FeedRun, Promise<void>>();
  /** Calls that have not ended by now never will. */
  #givenUp = false;

  constructor(deps: DrainDeps) {
    this.#deps = deps;
  }

  /** Resolves when the feed has ended here. Waits as long as its calls take: each has a time limit of its own. */
  stop(run: FeedRun): Promise<void> {
    let draining = this.#draining.get(run);
    if (draining === undefined) {
      draining = this.#drain(run).finally(() => this.#draining.delete(run));
      this.#draining.set(run, draining);
    }
    return draining;
  }

  /** The process ends: calls that have not ended after this time are given up. */
  giveUpAfter(durationMs: number): void {
    setTimeout(() => {
      this.#deps.giveUp();
      setTimeout(() => (this.#givenUp = true), giveUpMs).unref();
    }, durationMs).unref();
  }

  async #drain(run: FeedRun): Promise<void> {
    run.stopping = true;
    run.dispatcher.dropStaleRetries();
    run.rate.dropStale();
    while (this.#isBusy(run) && !this.#givenUp) await new Promise((resolve) => setTimeout(resolve, lookMs));
    await this.#record(run);
    run.dispatcher.detach(run);
    this.#deps.closed(run);
    const lanes = [...run.lanes.values()];
    try {
      if (lanes.length > 0) await this.#deps.release(run, lanes, true);
    } catch (error) {
      this.#deps.log.warn(
        { feedId: run.feed.id, err: error },
        'letting lanes go failed; their leases run out',
      );
    }
  }

  #isBusy(run: FeedRun): boolean {
    if (run.inFlight > 0) return true;
    for (const user of this.#deps.users()) if (user.run === run) return true;
    return false;
  }

  /** By several writes, if need be: one that finds a user handed back records nothing of its lane. */
  async #record(run: FeedRun): Promise<void> {
    const isRecorded = (lane: LaneRun) => lane.parks.size === 0 && lane.progress(false) === null;
    for (let writes = 0; writes < 3; writes++) {
      if (!(await this.#deps.writer.write()) || [...run.lanes.values()].every(isRecorded)) return;
    }
  }
}
