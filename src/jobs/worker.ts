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
/** Each of its workers has an answer twice a second, unless it has a job, which takes a statement or two. */
const longestSilenceSeconds = 5;
/** A session that is cut at the wrong moment leaves its start waiting for ever. */
const longestStartMs = 5_000;
const signsOfLife = ['worker:getJob:empty', 'job:start'] as const;

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

/** One start of graphile-worker. */
interface Run {
  readonly runner: Runner;
  /** Resolves when it has ended, or hangs and is given up. @throws the error it ended with */
  readonly over: Promise<void>;
}

/**
 * Starts taking jobs and goes on through outages of the database: graphile-worker ends itself when a job cannot be
 * marked as done, and then may hang instead, with its sessions gone. Either way it is started again until it works.
 * @throws when the first start fails.
 */
export async function startJobs(options: JobsOptions): Promise<Jobs> {
  const ids: string[] = [];
  const stopping = new AbortController();
  let current = await startRun(options, ids);
  const supervise = async (): Promise<void> => {
    while (!stopping.signal.aborted) {
      try {
        await current.over;
        if (stopping.signal.aborted) return;
      } catch (error) {
        options.log.warn({ err: toError(error) }, 'taking jobs stopped; starting again');
      }
      await sleep(restartMs, undefined, { signal: stopping.signal }).catch(() => {});
      if (stopping.signal.aborted) return;
      ids.length = 0;
      try {
        current = await startRun(options, ids);
      } catch (error) {
        options.log.warn({ err: toError(error) }, 'taking jobs could not start; trying again');
        current = { ...current, over: Promise.resolve() };
      }
    }
  };
  const supervised = supervise();
  return {
    ids,
    async stop() {
      stopping.abort();
      const stopped = current.runner.stop().catch((error: unknown) => {
        options.log.debug({ err: toError(error) }, 'the job runner had ended already');
      });
      await Promise.race([stopped, current.over.catch(() => {})]);
      await supervised;
    },
  };
}

async function startRun(options: JobsOptions, ids: string[]): Promise<Run> {
  const events = new EventEmitter() as WorkerEvents;
  events.on('worker:create', ({ worker }) => ids.push(worker.workerId));
  // Counted and not timed: a process that was stopped must not take its own silence for graphile-worker's.
  let silentSeconds = 0;
  let isEnding = false;
  // Its workers still ask for jobs then, and get none.
  events.on('pool:gracefulShutdown', () => (isEnding = true));
  for (const sign of signsOfLife) events.on(sign, () => (silentSeconds = isEnding ? silentSeconds : 0));
  const starting = startRunner(options, events);
  const runner = await Promise.race([starting, sleep(longestStartMs, null, { ref: false })]);
  if (runner === null) {
    starting.then((late) => late.stop()).catch(() => {});
    throw new Error(`graphile-worker did not start within ${longestStartMs / 1_000} s.`);
  }
  const { promise: given, reject: giveUp } = Promise.withResolvers<never>();
  const watch = setInterval(() => {
    if (++silentSeconds !== longestSilenceSeconds) return;
    runner.stop().catch(() => {});
    giveUp(new Error(`graphile-worker has taken no job for ${longestSilenceSeconds} s.`));
  }, 1_000);
  watch.unref();
  const over = Promise.race([runner.promise, given]).finally(() => clearInterval(watch));
  // Whoever waits for it hears of the error; while nobody does, it is no rejection that nobody handles.
  over.catch(() => {});
  return { runner, over };
}

function startRunner(options: JobsOptions, events: WorkerEvents): Promise<Runner> {
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
