/**
 * graphile-worker, as used here: a job says that a lane has work or that a waiting user is due, and is done
 * as soon as the lane or the user has been taken. So no job is held for long, none is stranded by a killed
 * worker, and a hanging destination takes no slot from another.
 */
import { EventEmitter } from 'node:events';
import { Logger, run, type WorkerEvents } from 'graphile-worker';
import { toError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';

/** Connections of graphile-worker's own pool in one process; one of them listens. */
const poolSize = 4;
const concurrency = 4;

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

/** Starts taking jobs. A task that throws is tried again by graphile-worker, and the sweep adds it anew anyway. */
export async function startJobs(options: JobsOptions): Promise<Jobs> {
  const ids: string[] = [];
  const events = new EventEmitter() as WorkerEvents;
  events.on('worker:create', ({ worker }) => ids.push(worker.workerId));
  const runner = await run({
    connectionString: options.databaseUrl,
    maxPoolSize: poolSize,
    concurrency,
    // New jobs are announced by NOTIFY; polling is for run_at times and for what a lost announcement left.
    pollInterval: 500,
    noHandleSignals: true,
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
  runner.promise.catch((error: unknown) =>
    options.log.error({ err: toError(error) }, 'the job runner ended'),
  );
  return { ids, stop: () => runner.stop() };
}
