/**
 * The real delivery engine with its real jobs in this process, sending to a destination that is a function of the
 * test: every call is recorded, and ends when and how the test says.
 */
import { openPool, type Sql } from '../../src/db/client.ts';
import { Engine } from '../../src/delivery/engine.ts';
import { loadDestinations } from '../../src/destinations/catalogue.ts';
import { type DeliverableEvent, defineDestination, type Outcome } from '../../src/destinations/definition.ts';
import { startSweep } from '../../src/jobs/sweep.ts';
import { startJobs } from '../../src/jobs/worker.ts';
import { createLog } from '../../src/lib/log.ts';

export interface Call {
  readonly event: DeliverableEvent;
  readonly replayId: string | null;
  /** By performance.now(). */
  readonly startedAt: number;
  /** The worker has given the call up. */
  readonly signal: AbortSignal;
  outcome: Outcome | null;
}

export type Script = (call: Call) => Outcome | Promise<Outcome>;

export interface WorkerOptions {
  readonly script: Script;
  /** Of the engine's own pool, if it goes another way than the jobs. */
  readonly engineUrl?: string;
  readonly sweeps?: boolean;
  readonly drainMs?: number;
}

export interface TestWorker {
  readonly engine: Engine;
  readonly calls: readonly Call[];
  /** Lines of the log at level warn and above. */
  readonly warnings: readonly string[];
  /** In order, as SIGTERM does. */
  stop(): Promise<void>;
}

/** The type of the destinations it sends to. */
export const scriptedType = 'scripted';

export const delivered: Outcome = { kind: 'delivered', status: 200 };
export const failed: Outcome = { kind: 'retry', reason: 'failed', status: 500 };

/** Starts a worker over the database. Leases are the real ones: three seconds. */
export async function startWorker(databaseUrl: string, options: WorkerOptions): Promise<TestWorker> {
  const calls: Call[] = [];
  const warnings: string[] = [];
  const definition = defineDestination({
    slug: scriptedType,
    name: 'Scripted',
    description: 'Does what the test says.',
    docs: [],
    accepts: ['identify', 'track', 'page', 'screen', 'group', 'alias'],
    limits: { concurrency: 256, timeoutMs: 60_000, batchEvents: 1 },
    replay: { oldestEventHours: null, honoursEventTime: true, dedupeKey: null, sideEffects: null },
    async send([event], { replayId, signal }) {
      const call: Call = {
        event: event as DeliverableEvent,
        replayId,
        startedAt: performance.now(),
        signal,
        outcome: null,
      };
      calls.push(call);
      call.outcome = await options.script(call);
      return [call.outcome];
    },
  });
  const sql: Sql = openPool(options.engineUrl ?? databaseUrl, 'delivery');
  const log = createLog({ level: 'warn', destination: { write: (line) => warnings.push(line) } });
  const engine = new Engine({
    sql,
    log,
    catalogue: await loadDestinations({ extra: [{ definition, settingsSchema: { type: 'object' } }] }),
    readSecret: (stored) => stored,
    request: () => Promise.reject(new Error('a scripted destination makes no request')),
    ...(options.drainMs === undefined ? {} : { drainMs: options.drainMs }),
  });
  const jobs = await startJobs({
    databaseUrl,
    log,
    takeLane: (feedId, lane) => engine.takeLane(feedId, lane),
    takeUser: (feedId, userKey) => engine.takeUser(feedId, userKey),
  });
  const stopSweep = options.sweeps
    ? startSweep({ sql, log, workerId: engine.workerId, jobIds: () => jobs.ids })
    : () => Promise.resolve();
  let stopped: Promise<void> | null = null;
  const stop = async () => {
    await jobs.stop();
    await engine.stop();
    await stopSweep();
    await sql.end({ timeout: 5 });
  };
  return { engine, calls, warnings, stop: () => (stopped ??= stop()) };
}

/** A promise that the test resolves. */
export function pending<Value>() {
  return Promise.withResolvers<Value>();
}
