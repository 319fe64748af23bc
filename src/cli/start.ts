/**
 * The life of a server process: database, migrations, secrets, roles, the banner; then a signal, and all of it
 * in reverse. Promises that what was started is stopped, also when a later step fails, the embedded Postgres
 * last; that a second Ctrl-C ends it at once; and that a failed start is told in a sentence.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Config, type Environment, unknownVariables } from '../config/env.ts';
import { openPool } from '../db/client.ts';
import { startEmbeddedPostgres } from '../db/embedded.ts';
import { migrateDatabase } from '../db/migrate.ts';
import { toError } from '../lib/errors.ts';
import { createLog, type Log } from '../lib/log.ts';
import { renderBanner, withoutPassword } from './banner.ts';
import { CommandError } from './failure.ts';
import { formatSeconds } from './figures.ts';
import { type Installation, resolveInstallation } from './installation.ts';
import { readInstallationFile, writeInstallationFile } from './installation-file.ts';
import { serve } from './serve.ts';
import { listenForStop } from './stop-signals.ts';
import type { Terminal } from './terminal.ts';

export interface StartOptions {
  readonly config: Config;
  readonly terminal: Terminal;
  /** Stands in for process.env. */
  readonly environment?: Environment;
}

/** Something that runs and must be stopped; the last started is stopped first. */
interface Running {
  readonly name: string;
  stop(): Promise<void>;
}

const longestStopMs = 25_000;
const longestWaitForDatabaseMs = 30_000;

/** Starts the server and resolves with the exit code when it was told to stop. @throws CommandError when it cannot start */
export async function start({ config, terminal, environment }: StartOptions): Promise<number> {
  const startedAt = performance.now();
  const log = createServerLog(config, terminal);
  const stop = listenForStop(log);
  const running: Running[] = [];
  let exitCode = 0;
  try {
    for (const name of unknownVariables(environment))
      log.warn(`${name} means nothing to Repeater; see "repeater serve --help".`);
    const databaseUrl = await openDatabase(config, { log, running, signal: stop.signal });
    if (!stop.signal.aborted) {
      const installation = await findInstallation(config, databaseUrl);
      for (const warning of installation.warnings) log.warn(warning);
      const server = await serve({ config, databaseUrl, installation, log });
      running.push({ name: 'server', stop: () => server.stop() });
      const address = reachable(server.address);
      log.info({ address, role: config.role }, 'ready');
      if (config.role !== 'worker') {
        await announce(
          { config, terminal, databaseUrl, installation },
          { address, tookMs: performance.now() - startedAt },
        );
      }
      exitCode = await stop.requested;
      if (terminal.isInteractive) terminal.note('Stopping …');
    }
  } catch (error) {
    throw explain(error, config);
  } finally {
    await stopAll(running, log);
    stop.dispose();
  }
  return exitCode;
}

/** Applies migrations and ends. @throws CommandError when the database cannot be reached or migrated */
export async function migrate({ config, terminal }: StartOptions): Promise<void> {
  const log = createServerLog(config, terminal);
  const running: Running[] = [];
  try {
    await openDatabase(config, { log, running, signal: new AbortController().signal });
  } catch (error) {
    throw explain(error, config, 'The database could not be migrated');
  } finally {
    await stopAll(running, log);
  }
}

function createServerLog(config: Config, terminal: Terminal): Log {
  return createLog({ level: config.logLevel, pretty: terminal.isInteractive && config.databaseUrl === null });
}

/** The connection string of a migrated database. */
async function openDatabase(
  config: Config,
  { log, running, signal }: { readonly log: Log; readonly running: Running[]; readonly signal: AbortSignal },
): Promise<string> {
  if (config.databaseUrl !== null) {
    await migrateWhenReachable(config.databaseUrl, log, signal);
    return config.databaseUrl;
  }
  const embedded = await startEmbeddedPostgres({
    dataDir: config.dataDir,
    log: (message) => log.info(message),
  });
  running.push({ name: 'embedded PostgreSQL', stop: () => embedded.stop() });
  await migrateDatabase(embedded.url);
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

const absentCodes = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'ENOENT', 'CONNECT_TIMEOUT', '57P03'];

function isAbsent(error: unknown): boolean {
  const { code } = toError(error) as NodeJS.ErrnoException;
  return code !== undefined && absentCodes.includes(code);
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

/** A failed start as a sentence with advice; the cause keeps the rest. */
function explain(thrown: unknown, config: Config, failed = 'Repeater could not start'): Error {
  const error = toError(thrown);
  const { code, path } = error as NodeJS.ErrnoException;
  const place = `${config.host}:${config.port}`;
  const { hostname } = error as { hostname?: unknown };
  if (code === 'EADDRINUSE') {
    const hint = `Is it running already? Else choose another port: PORT=${config.port + 1} npm start`;
    return new CommandError(`Port ${config.port} is in use (PORT, ${place}).`, { hint, cause: error });
  }
  if (code === 'EACCES' && 'port' in error) {
    return new CommandError(`Port ${config.port} may not be opened by this user (PORT).`, { cause: error });
  }
  if (code === 'EADDRNOTAVAIL' || hostname === config.host) {
    return new CommandError(`${config.host} is no address of this machine (HOST).`, { cause: error });
  }
  if (config.databaseUrl !== null && isAbsent(error)) {
    const hint = 'DATABASE_URL names the server; without it an embedded one is started.';
    const text = `The database at ${withoutPassword(config.databaseUrl)} does not answer (${code}).`;
    return new CommandError(text, { hint, cause: error });
  }
  if (code !== undefined && path?.startsWith(config.dataDir) === true) {
    const hint = 'It must be a folder of the user who starts Repeater; DATA_DIR names another.';
    const text = `The data folder ${config.dataDir} cannot be used (${code}).`;
    return new CommandError(text, { hint, cause: error });
  }
  const detail = config.logLevel === 'debug' || config.logLevel === 'trace' ? `\n${error.stack ?? ''}` : '';
  return new CommandError(`${failed}: ${error.message}${detail}`, { cause: error });
}
