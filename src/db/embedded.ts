/**
 * The Postgres that comes with Repeater, for starting without any configuration. Promises one server per
 * DATA_DIR, owned by one Repeater at a time, on loopback only and behind a random password, with the same
 * address on every start; and that it comes up again whatever was killed: Node alone (the server lives on
 * and is adopted), the whole process tree, or the first start half-way.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import postgres from 'postgres';
import * as folders from './embedded-folder.ts';
import { findPostgresPrograms, findServerAccount, type PostgresPrograms } from './embedded-programs.ts';
import * as servers from './embedded-server.ts';

export interface EmbeddedPostgresOptions {
  dataDir: string;
  /** Told in a few words what takes time or is unusual; never a secret. */
  log: (message: string) => void;
  /** Server settings that win over all others; tests trade durability for speed with them. */
  settings?: Readonly<Record<string, string>>;
}

export interface EmbeddedPostgres {
  /** postgres://user:password@127.0.0.1:port/repeater. The role owns that database and is no superuser. */
  url: string;
  /** True when the server was still running from an earlier Repeater that was killed. */
  adopted: boolean;
  /** Fast shutdown; returns when the server is gone. Ends every session, so close your clients first. */
  stop(): Promise<void>;
}

/** What a killed server leaves behind (processes, its port) is gone well within this time. */
const maxLeftoversMs = 10_000;
/** So is the session of a killed owner. */
const maxOwnerLeavesMs = 3_000;
const ownerLock = 7_350_001;

/** Starts or adopts the server in `dataDir`. Throws when another Repeater has it, or when it cannot start. */
export async function startEmbeddedPostgres(options: EmbeddedPostgresOptions): Promise<EmbeddedPostgres> {
  const { log, settings = {} } = options;
  const folder = await folders.openFolder(options.dataDir);
  const clusterOwner = await folders.clusterOwner(folder);
  const account = await findServerAccount(clusterOwner);
  if (account !== undefined) await folders.letPass(folder, account);
  const programs = await findPostgresPrograms(folder.dataDir, account);
  const access = await folders.readOrCreateAccess(folder);
  if (clusterOwner === undefined) {
    log(`creating a PostgreSQL cluster in ${folder.cluster}`);
    await folders.createCluster(folder, { programs, account, password: access.password });
  }
  const { server, adopted, owner } = await own(folder, { programs, settings, access });
  if (adopted) log(`adopted the embedded PostgreSQL that was still running (process ${server.pid})`);
  await folders.removeUnfinished(folder);
  if (access.port !== server.port) await folders.saveAccess(folder, { ...access, port: server.port });
  const { userName, databaseName } = folders;
  return {
    url: `postgres://${userName}:${access.password}@127.0.0.1:${server.port}/${databaseName}`,
    adopted,
    async stop() {
      // In this order, so that nobody adopts a server that is about to go.
      await servers.stopServer(folder, server);
      await owner.end({ timeout: 1 });
    },
  };
}

interface OwnedServer {
  server: servers.RunningServer;
  adopted: boolean;
  owner: postgres.Sql;
}

async function own(
  folder: folders.EmbeddedFolder,
  options: { programs: PostgresPrograms; settings: Readonly<Record<string, string>>; access: folders.Access },
): Promise<OwnedServer> {
  const { programs, settings, access } = options;
  const deadline = Date.now() + maxLeftoversMs;
  for (;;) {
    const { server, adopted } = await findOrStart(folder, { programs, settings, port: access.port });
    try {
      return { server, adopted, owner: await takeOwnership(folder, server.port, access.password) };
    } catch (error) {
      // An earlier Repeater was just about to stop the server that was found.
      if (adopted && isGoingAway(error) && Date.now() < deadline) continue;
      if (!adopted && !(error instanceof OwnedByAnotherError)) await servers.stopServer(folder, server);
      throw error;
    }
  }
}

/** Codes of a server that shuts down or restarts itself, of Postgres, the driver and the system. */
function isGoingAway(error: unknown): boolean {
  const codes = ['57P01', '57P02', '57P03', 'CONNECTION_CLOSED', 'ECONNREFUSED', 'ECONNRESET', 'EPIPE'];
  return codes.some((code) => folders.hasCode(error, code));
}

async function findOrStart(
  folder: folders.EmbeddedFolder,
  options: {
    programs: PostgresPrograms;
    settings: Readonly<Record<string, string>>;
    port: number | undefined;
  },
): Promise<{ server: servers.RunningServer; adopted: boolean }> {
  const deadline = Date.now() + maxLeftoversMs;
  for (;;) {
    const running = await servers.findRunningServer(folder);
    if (running !== undefined) return { server: running, adopted: true };
    try {
      const port = await servers.findFreePort(options.port);
      const { programs, settings } = options;
      return { server: await servers.startServer(folder, programs, { port, settings }), adopted: false };
    } catch (error) {
      const passing = error instanceof servers.ServerEndedError && (error.clusterInUse || error.portInUse);
      if (!passing || Date.now() > deadline) throw error;
      await sleep(200);
    }
  }
}

class OwnedByAnotherError extends Error {
  constructor(folder: folders.EmbeddedFolder) {
    super(
      `Another Repeater is running with DATA_DIR ${folder.dataDir}. Stop it first; to run several processes ` +
        'over one database, give them the same DATABASE_URL.',
    );
    this.name = 'OwnedByAnotherError';
  }
}

/**
 * Ownership is an advisory lock of a session: Postgres drops it the moment the owner dies, so unlike a lock
 * file it is never stale. (Should the server crash and restart itself, the lock is lost until the next
 * start; that only matters to somebody starting a second Repeater by mistake just then.)
 */
async function takeOwnership(
  folder: folders.EmbeddedFolder,
  port: number,
  password: string,
): Promise<postgres.Sql> {
  const session = postgres({
    host: '127.0.0.1',
    port,
    user: folders.userName,
    password,
    database: folders.databaseName,
    ssl: false,
    max: 1,
    // The session must live as long as this process: no time limits.
    idle_timeout: 0,
    max_lifetime: null,
    fetch_types: false,
    connection: { application_name: 'repeater owner' },
  });
  const deadline = Date.now() + maxOwnerLeavesMs;
  try {
    for (;;) {
      const [row] = await session<{ place: string; locked: boolean }[]>`
        select current_setting('data_directory') as place, pg_try_advisory_lock(${ownerLock}) as locked`;
      if (row?.place !== folder.cluster) {
        throw new Error(`The server on port ${port} serves ${row?.place}, not ${folder.cluster}.`);
      }
      if (row.locked) return session;
      if (Date.now() > deadline) throw new OwnedByAnotherError(folder);
      await sleep(100);
    }
  } catch (error) {
    await session.end({ timeout: 1 });
    throw error;
  }
}
