/**
 * graphile-worker, as used here: a job says that a lane has work or that a waiting user is due, and is done
 * as soon as the lane or the user has been taken. So no job is held for long, none is stranded by a killed
 * worker, and a hanging destination takes no slot from another.
 */
import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Logger, run, type Runner, type WorkerEvents } from 'graphile-worker';
import { toError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';

/** Connections of graphile-worker's own pool in one process; one of them listens. */
const poolSize = 4;
const concurrency = 4;
const restartMs = 1_000;

interface JobsOptions {
  readonly databaseUrl: string;
  readonly log: Log;
  readonly takeLane: (feedId: number, lane: number) => Promise<void>;
  readonly takeUser: (feedId: number, userKey: string) => Promise<void>;
}

export interface Jobs {
  /** graphile-worker's ids of this process, to be freed should it die. */
  readonly ids: readonly string[];
  stop(): Promise<void>;
}

/**
 * Starts taking jobs and goes on through outages of the database: graphile-worker ends itself after ten failed
 * polls, and is then started again until it works.
 * @throws when the first start fails.
 */
export async function startJobs(options: JobsOptions): Promise<Jobs> {
  const ids: string[] = [];
  const stopping = new AbortController();
  let runner = await startRunner(options, ids);
  const supervise = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      try {
        await runner.promise;
        if (stopping.signal.aborted) return;
      } catch (error) {
        options.log.warn({ err: toError(error) }, 'taking jobs stopped; starting again');
      }
      await sleep(restartMs, undefined, { signal: stopping.signal }).catch(() => {});
      if (stopping.signal.aborted) return;
      ids.length = 0;
      try {
        runner = await startRunner(options, ids);
      } catch (error) {
        options.log.warn({ err: toError(error) }, 'taking jobs could not start; trying again');
        runner = { ...runner, promise: Promise.resolve() };
      }
    }
  };
  const supervised = supervise();
  return {
    ids,
    async stop() {
      stopping.abort();
      await runner.stop().catch((error: unknown) => {
        options.log.debug({ err: toError(error) }, 'the job runner had ended already');
      });
      await supervised;
    },
  };
}

function startRunner(options: JobsOptions, ids: string[]): Promise<Runner> {
  const events = new EventEmitter() as WorkerEvents;
  events.on('worker:create', ({ worker }) => ids.push(worker.workerId));
  return run({
    connectionString: options.databaseUrl,
    maxPoolSize: poolSize,
    concurrency,
    // New jobs are announced by NOTIFY; polling is for run_at times and for what a lost announcement left.
    pollInterval: 500,
    noHandleSignals: true,
    // Without a batch a job that cannot be marked as done is a rejection that nobody handles; with one it ends the
    // runner, which is then started again.
    preset: { worker: { completeJobBatchDelay: 0, failJobBatchDelay: 0 } },
    events,
    logger: new Logger((scope) => (level, message) => {
      if (level === 'error' || level === 'warning') options.log.warn({ scope: scope.label }, message);
    }),
    taskList: {
      'drain-lane': (payload) => {
        const { feedId, lane } = payload as { feedId: number; lane: number };
        return options.takeLane(feedId, lane);
      },
      'retry-user': (payload) => {
        const { feedId, userKey } = payload as { feedId: number; userKey: string };
        return options.takeUser(feedId, userKey);
      },
    },
  });
}
