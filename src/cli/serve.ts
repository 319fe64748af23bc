/**
 * The composition root: builds every part from the configuration, starts the roles api and worker, and stops
 * them in the order that loses nothing: no new requests, what was taken is answered, lanes are let go, then
 * the connections close. When another process has taken over, lanes are let go at once and clients may take their
 * time.
 */
import { createDocs } from '../admin/docs.ts';
import { eventLine } from '../admin/events.ts';
import { createAdminApi } from '../admin/routes.ts';
import { readEnvironment, type Config } from '../config/env.ts';
import { createSecretReader, type Sealer } from '../config/secrets.ts';
import { openPool, type Sql } from '../db/client.ts';
import { eventMessage, streamEvents } from '../debugger/server-sent-events.ts';
import { createTail } from '../debugger/tail.ts';
import { Engine } from '../delivery/engine.ts';
import { createRequester } from '../delivery/request.ts';
import { checkHost } from '../delivery/request-address.ts';
import { loadDestinations, type Catalogue } from '../destinations/catalogue.ts';
import { appendGroup } from '../events/append-group.ts';
import { keepRejected } from '../events/rejected.ts';
import { createApp } from '../http/app.ts';
import { createHealthRoutes } from '../http/health.ts';
import { listen, type ListeningSocket } from '../http/server.ts';
import { createForwarding } from '../ingest/client-address.ts';
import { createGroupCommit } from '../ingest/group-commit.ts';
import { createRateLimit } from '../ingest/rate-limit.ts';
import { createIngestRoutes } from '../ingest/routes.ts';
import { createWriteKeys } from '../ingest/write-key.ts';
import { startSweep } from '../jobs/sweep.ts';
import { startJobs } from '../jobs/worker.ts';
import { toError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { createWaker } from '../routing/wake.ts';
import { loadEventSchemas } from '../validation/catalogue.ts';
import { keepHeapSmall } from './heap.ts';
import type { Installation } from './installation.ts';

export interface ServeOptions {
  readonly config: Config;
  /** Of a migrated database. */
  readonly databaseUrl: string;
  readonly installation: Installation;
  readonly log: Log;
  /** The destination types; those of src/destinations unless a benchmark adds its own. */
  readonly catalogue?: Catalogue;
  /** That of the process before, instead of a new one. */
  readonly socket?: ListeningSocket;
  /** What `POST /admin/reload` does; without it the answer is that there is no such thing. */
  readonly reload?: () => Promise<void>;
}

export interface RunningServer {
  /** `http://127.0.0.1:8080`; null for a worker, which listens only for health checks. */
  readonly address: string;
  readonly socket: ListeningSocket;
  stop(): Promise<void>;
  /** Another process accepts and delivers now: finishes what is here. `stop` hastens it. */
  retire(): Promise<void>;
}

/** What every role needs. */
interface Shared extends ServeOptions {
  readonly catalogue: Catalogue;
  readonly readSecret: ReturnType<typeof createSecretReader>;
}

interface Part {
  stop(): Promise<void>;
}

interface Worker extends Part {
  /** Events were just stored by this process. */
  poke(): void;
}

/**
 * Starts the roles that the configuration names.
 * @throws when a schema or destination file is wrong, the database does not answer, or the port is taken.
 */
export async function serve(options: ServeOptions): Promise<RunningServer> {
  keepHeapSmall();
  const { config, installation } = options;
  const { sealer } = installation;
  const shared: Shared = {
    ...options,
    catalogue: options.catalogue ?? (await loadDestinations()),
    readSecret: createSecretReader({ sealer, readEnvironment }),
  };
  const worker = config.role === 'api' ? null : await startWorker(shared);
  let stopping = false;
  const healthPool = openPool(options.databaseUrl, 'admin', { max: 1, applicationName: 'repeater health' });
  const health = createHealthRoutes({ sql: healthPool, isStopping: () => stopping });
  try {
    const api = config.role === 'worker' ? null : await buildApi({ ...shared, sealer }, () => worker?.poke());
    const app = createApp({
      log: options.log,
      health,
      ingest: api?.ingest ?? null,
      admin: api?.admin ?? null,
      docs: api?.docs ?? null,
    });
    const server = await listen(app, config, options.socket);
    let ended: Promise<void> | undefined;
    const end = async (closed: Promise<void>, released?: Promise<void>) => {
      api?.closeStreams();
      await Promise.all([closed, released]);
      await api?.stop();
      if (!released) await worker?.stop();
      await healthPool.end({ timeout: 1 });
    };
    return {
      address: `http://${config.host.includes(':') ? `[${config.host}]` : config.host}:${server.port}`,
      socket: server.socket,
      stop() {
        stopping = true;
        const closed = server.close();
        return (ended ??= end(closed));
      },
      retire: () => (ended ??= end(server.retire(), worker?.stop() ?? Promise.resolve())),
    };
  } catch (error) {
    await worker?.stop();
    await healthPool.end({ timeout: 1 });
    throw error;
  }
}

async function startWorker(shared: Shared): Promise<Worker> {
  const { config, databaseUrl, log } = shared;
  const sql = openPool(databaseUrl, 'delivery');
  const requester = createRequester({ allowPrivateAddresses: config.allowPrivateDestinations });
  const engine = new Engine({
    sql,
    log,
    catalogue: shared.catalogue,
    readSecret: shared.readSecret,
    request: requester.request,
  });
  const jobs = await startJobs({
    databaseUrl,
    log,
    takeLane: (feedId, lane) => engine.takeLane(feedId, lane),
    takeUser: (feedId, userKey) => engine.takeUser(feedId, userKey),
  });
  const stopSweep = startSweep({ sql, log, workerId: engine.workerId, jobIds: () => jobs.ids });
  return {
    poke: () => engine.poke(),
    async stop() {
      await jobs.stop();
      await engine.stop();
      await stopSweep();
      await requester.close();
      await sql.end({ timeout: 5 });
    },
  };
}

async function buildApi(shared: Shared & { readonly sealer: Sealer }, poke: () => void) {
  const { config, databaseUrl, log } = shared;
  const { adminToken } = shared.installation;
  if (adminToken === null) throw new Error('The role api needs an admin token.');
  const ingestPool = openPool(databaseUrl, 'ingest');
  const adminPool = openPool(databaseUrl, 'admin');
  const waker = createWaker({ sql: ingestPool, log });
  const groupCommit = createGroupCommit({
    append: (events) => appendGroup({ sql: ingestPool, dedupHours: config.dedupHours, log }, events),
    keepRejected: (rejected) => keepRejected(ingestPool, rejected),
    appended(lanes) {
      waker.wake(lanes);
      poke();
    },
    log,
  });
  const writeKeys = await createWriteKeys({ sql: adminPool, log });
  const addresses = { allowPrivateAddresses: config.allowPrivateDestinations };
  const tail = createTail({
    sql: adminPool,
    frameOf: (event) => eventMessage(event, eventLine(event)),
    onError: (error) =>
      log.warn({ err: toError(error) }, 'following the log for the debugger failed; trying again'),
  });
  const admin = createAdminApi({
    sql: adminPool,
    adminToken,
    catalogue: shared.catalogue,
    sealer: shared.sealer,
    readSecret: shared.readSecret,
    checkDestinationUrl: (url) => checkHost(url, addresses),
    streamEvents: (request) => streamEvents(tail, request),
    reload: shared.reload ?? null,
  });
  return {
    ingest: createIngestRoutes({
      log,
      groupCommit,
      writeKeys,
      validate: await loadEventSchemas(),
      rateLimit: config.rateLimitPerKey === null ? null : createRateLimit(config.rateLimitPerKey),
      forwarding: createForwarding(config.trustedProxies),
    }),
    admin,
    docs: createDocs(admin),
    /** Ends what would keep connections open for ever. */
    closeStreams: () => tail.close(),
    async stop() {
      await groupCommit.drain();
      await waker.settle();
      writeKeys.stop();
      await endPools([ingestPool, adminPool]);
    },
  };
}

async function endPools(pools: readonly Sql[]): Promise<void> {
  await Promise.all(pools.map((pool) => pool.end({ timeout: 5 })));
}
