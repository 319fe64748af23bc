/**
 * The life of a server process: database, migrations, secrets, roles, the banner; then a signal, and all of it
 * in reverse. Promises that what was started is stopped, also when a later step fails, the embedded Postgres
 * last; that a second Ctrl-C ends it at once; and that a failed start is told in a sentence. Later processes of a
 * reload live here too: they are given socket and database, and end when the next one has taken over.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Config, type Environment, unknownVariables } from '../config/env.ts';
import { openPool } from '../db/client.ts';
import { startEmbeddedPostgres } from '../db/embedded.ts';
import { migrateDatabase } from '../db/migrate.ts';
import { AppError, toError } from '../lib/errors.ts';
import { createLog, type Log } from '../lib/log.ts';
import { renderBanner, withoutPassword } from './banner.ts';
import { formatSeconds } from './figures.ts';
import { type Installation, resolveInstallation } from './installation.ts';
import { readInstallationFile, writeInstallationFile } from './installation-file.ts';
import { Reloads } from './reload.ts';
import { type RunningServer, serve } from './serve.ts';
import { explain, isAbsent } from './start-failure.ts';
import { listenForStop, type StopRequest } from './stop-signals.ts';
import type { FirstProcess } from './successor.ts';
import type { Terminal } from './terminal.ts';

export interface StartOptions {
  readonly config: Config;
  readonly terminal: Terminal;
  /** Stands in for process.env. */
  readonly environment?: Environment;
  /** The process that this one takes over from. */
  readonly first?: FirstProcess | null;
}

/** Something that runs and must be stopped; the last started is stopped first. */
interface Running {
  readonly name: string;
  stop(): Promise<void>;
}

const longestStopMs = 25_000;
const longestWaitForDatabaseMs = 30_000;

/** Starts the server and resolves with the exit code when it was told to stop. @throws CommandError when it cannot start */
export async function start(options: StartOptions): Promise<number> {
  const { config, terminal, environment, first = null } = options;
  const startedAt = performance.now();
  const log = createServerLog(config, terminal);
  let reloads: Reloads | undefined;
  const reload = () => (first ?? reloads)?.reload() ?? Promise.reject(new AppError('conflict', starting));
  const stop = listenForStop({
    log,
    hangUp: terminal.isInteractive
      ? null
      : () => void reload().catch((error: Error) => log.warn({ reason: error.message }, 'SIGHUP: no reload')),
  });
  const running: Running[] = [];
  let exitCode = 0;
  try {
    for (const name of unknownVariables(environment))
      log.warn(`${name} means nothing to Repeater; see "repeater serve --help".`);
    const database = await openDatabase(options, { log, running, signal: stop.signal });
    if (!stop.signal.aborted) {
      const installation = await findInstallation(config, database.url);
      for (const warning of installation.warnings) log.warn(warning);
      const given = first ? { socket: first.socket } : {};
      const server = await serve({ config, databaseUrl: database.url, installation, log, reload, ...given });
      running.push({ name: 'server', stop: () => server.stop() });
      const address = reachable(server.address);
      log.info({ address, role: config.role }, 'ready');
      if (first) exitCode = await serveUntilRetired(server, { first, stop, log });
      else {
        reloads = createReloads(server, { log, embeddedUrl: database.embeddedUrl, running });
        if (config.role !== 'worker') {
          await announce(
            { config, terminal, databaseUrl: database.url, installation },
            { address, tookMs: performance.now() - startedAt },
          );
        }
        exitCode = await Promise.race([stop.requested, reloads.ended]);
      }
      if (terminal.isInteractive && !first) terminal.note('Stopping …');
    }
  } catch (error) {
    throw explain(error, config);
  } finally {
    await stopAll(running, log);
    stop.dispose();
  }
  return exitCode;
}

const starting = { message: 'The server is starting.' };

function createReloads(
  server: RunningServer,
  { log, embeddedUrl, running }: { log: Log; embeddedUrl: string | null; running: Running[] },
): Reloads {
  const reloads = new Reloads({
    log,
    embeddedUrl,
    command: [process.execPath, ...process.execArgv, ...process.argv.slice(1), '--take-over'],
    first: { socket: server.socket, retire: () => server.retire(), hasten: () => void server.stop() },
  });
  running.push({ name: 'later processes', stop: () => reloads.stop() });
  return reloads;
}

/** A process that took over ends when it is stopped, when the next one has taken over, or with the first process. */
async function serveUntilRetired(
  server: RunningServer,
  { first, stop, log }: { first: FirstProcess; stop: StopRequest; log: Log },
): Promise<number> {
  first.ready(server.socket);
  const why = await Promise.race([stop.requested, first.gone, first.retired]);
  if (why !== 'retire') {
    if (!stop.signal.aborted) log.error('the first process is gone; stopping');
    return why;
  }
  const hastened = Promise.race([stop.requested, first.gone]).then(() => server.stop());
  await Promise.race([server.retire(), hastened]);
  return 0;
}

/** Applies migrations and ends. @throws CommandError when the database cannot be reached or migrated */
export async function migrate({ config, terminal }: StartOptions): Promise<void> {
  const log = createServerLog(config, terminal);
  const running: Running[] = [];
  try {
    await openDatabase({ config }, { log, running, signal: new AbortController().signal });
  } catch (error) {
    throw explain(error, config, 'The database could not be migrated');
  } finally {
    await stopAll(running, log);
  }
}

function createServerLog(config: Config, terminal: Terminal): Log {
  return createLog({ level: config.logLevel, pretty: terminal.isInteractive && config.databaseUrl === null });
}

interface Database {
  readonly url: string;
  /** The same, when it is the embedded one. */
  readonly embeddedUrl: string | null;
}

/** Finds or starts the database and migrates it. */
async function openDatabase(
  { config, first = null }: Pick<StartOptions, 'config' | 'first'>,
  { log, running, signal }: { readonly log: Log; readonly running: Running[]; readonly signal: AbortSignal },
): Promise<Database> {
  if (config.databaseUrl !== null) {
    await migrateWhenReachable(config.databaseUrl, log, signal);
    return { url: config.databaseUrl, embeddedUrl: null };
  }
  // The first process owns it, also while later ones serve.
  const embeddedUrl = first?.embeddedUrl ?? (await startEmbedded(config, log, running));
  await migrateDatabase(embeddedUrl);
  return { url: embeddedUrl, embeddedUrl };
}

async function startEmbedded(config: Config, log: Log, running: Running[]): Promise<string> {
  const embedded = await startEmbeddedPostgres({
    dataDir: config.dataDir,
    log: (message) => log.info(message),
  });
  running.push({ name: 'embedded PostgreSQL', stop: () => embedded.stop() });
  return embedded.url;
}

/** Started side by side with its database (compose, a cluster), it waits for it a while. */
async function migrateWhenReachable(databaseUrl: string, log: Log, signal: AbortSignal): Promise<void> {
  const deadline = Date.now() + longestWaitForDatabaseMs;
  for (let isTold = false; !signal.aborted; isTold = true) {
    try {
      return await migrateDatabase(databaseUrl);
    } catch (error) {
      if (!isAbsent(error) || Date.now() > deadline) throw error;
      if (!isTold) {
        const { code } = toError(error) as NodeJS.ErrnoException;
        log.warn(
          { code, database: withoutPassword(databaseUrl) },
          'the database does not answer yet; waiting',
        );
      }
      await sleep(1000);
    }
  }
}

async function findInstallation(config: Config, databaseUrl: string): Promise<Installation> {
  const sql = openPool(databaseUrl, 'admin', { max: 1, applicationName: 'repeater start' });
  try {
    return await resolveInstallation(config, sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

interface Started extends StartOptions {
  readonly databaseUrl: string;
  readonly installation: Installation;
}

async function announce(
  started: Started,
  { address, tookMs }: { address: string; tookMs: number },
): Promise<void> {
  const { config, terminal, databaseUrl, installation } = started;
  const isOurs = config.databaseUrl === null;
  if (isOurs) {
    const kept = await readInstallationFile(config.dataDir);
    if (kept.address !== address) await writeInstallationFile(config.dataDir, { ...kept, address });
  }
  // A log collector should see a secret once at most; a person at the terminal may see it again.
  const { adminToken, justNow } = installation.generated;
  const mayShow = adminToken && (isOurs || justNow || terminal.isInteractive);
  const facts = {
    address,
    writeKey: installation.writeKey,
    adminToken: mayShow ? installation.adminToken : null,
    adminTokenNote: adminToken ? 'shown at the first start; or set ADMIN_TOKEN' : 'as set in ADMIN_TOKEN',
    databaseUrl: isOurs ? databaseUrl : withoutPassword(databaseUrl),
    took: formatSeconds(tookMs / 1000),
  };
  const bold = (text: string) => terminal.style('bold', text);
  const dim = (text: string) => terminal.style('dim', text);
  terminal.printAll(renderBanner(facts, { bold, dim }));
}

/** An address that can be opened: a server that listens everywhere is also here. */
function reachable(address: string): string {
  return address.replace(/\/\/(?:0\.0\.0\.0|\[::\])(?=[:/]|$)/, '//127.0.0.1');
}

async function stopAll(running: Running[], log: Log): Promise<void> {
  for (const { name, stop } of running.toReversed()) {
    const late = AbortSignal.timeout(longestStopMs);
    const isLate = new Promise<'late'>((resolve) => late.addEventListener('abort', () => resolve('late')));
    try {
      if ((await Promise.race([stop(), isLate])) === 'late') log.error(`the ${name} did not stop in time`);
    } catch (error) {
      log.error({ err: error }, `stopping the ${name} failed`);
    }
  }
}
