/**
 * The server process (postmaster) over one cluster: finds the one that runs, starts one, stops it. Promises
 * that no second server ever starts over a cluster in use. Trusts `postmaster.pid` only for where to look:
 * whether that process is this cluster's server is read from its command line, because process ids are
 * reused. The server leads a session of its own, so a terminal's Ctrl-C reaches Node only.
 */
import { execFile, spawn } from 'node:child_process';
import { open, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { type EmbeddedFolder, hasCode } from './embedded-folder.ts';
import type { PostgresPrograms } from './embedded-programs.ts';

const pollMs = 20;
const maxLogBytes = 16 * 1024 * 1024;
/** How long Postgres may take to shut down fast (it writes a checkpoint) before it is stopped at once. */
const maxStopMs = 60_000;

export interface RunningServer {
  pid: number;
  port: number;
}

interface PidFile extends RunningServer {
  /** "starting", "ready" or "stopping". */
  status: string;
}

/** The server that runs over this cluster, once it takes connections; undefined when there is none. */
export async function findRunningServer(folder: EmbeddedFolder): Promise<RunningServer | undefined> {
  const found = await readPidFile(folder);
  if (found === undefined) return undefined;
  if (await isServerOf(found.pid, folder)) return waitUntilReady(folder, found.pid);
  if (isAlive(found.pid)) await disownPidFile(folder, found.pid);
  return undefined;
}

/** Starts the server and returns when it takes connections. Rejects with the end of its log if it cannot. */
export async function startServer(
  folder: EmbeddedFolder,
  programs: PostgresPrograms,
  options: { port: number; settings: Readonly<Record<string, string>> },
): Promise<RunningServer> {
  await setLogAside(folder);
  const log = await open(folder.logFile, 'a', 0o600);
  try {
    const { size: logStart } = await log.stat();
    const command = programs.command(programs.postgres, serverArguments(folder, options));
    const child = spawn(command.file, command.args, {
      ...command.options,
      detached: true,
      stdio: ['ignore', log.fd, log.fd],
    });
    const ended = new Promise<void>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', () => resolve());
    });
    const { pid } = child;
    if (pid === undefined) throw await ended.then(() => new Error('The server could not be started.'));
    const ready = await Promise.race([waitUntilReady(folder, pid, true), ended.then(() => undefined)]);
    child.unref();
    if (ready !== undefined) return ready;
    const told = (await readFile(folder.logFile)).subarray(logStart).toString('utf8').trim();
    throw new ServerEndedError(told, folder);
  } finally {
    await log.close();
  }
}

/** The server ended before it took connections. */
export class ServerEndedError extends Error {
  /** Another server was faster, or what is left of a killed one is still ending: look again. */
  readonly clusterInUse: boolean;
  readonly portInUse: boolean;

  constructor(told: string, folder: EmbeddedFolder) {
    super(`The embedded PostgreSQL ended while starting (${folder.logFile}):\n${told}`);
    this.name = 'ServerEndedError';
    this.clusterInUse = /lock file "postmaster\.pid"|pre-existing shared memory block/.test(told);
    this.portInUse = /could not create any TCP\/IP sockets/.test(told);
  }
}

/** Fast shutdown: sessions are ended, everything committed is on disk. Returns when the process is gone. */
export async function stopServer(folder: EmbeddedFolder, { pid }: RunningServer): Promise<void> {
  const deadline = Date.now() + maxStopMs;
  let signal: 'SIGINT' | 'SIGQUIT' = 'SIGINT';
  if (!(await isServerOf(pid, folder))) return;
  process.kill(pid, signal);
  while (await isServerOf(pid, folder)) {
    if (signal === 'SIGINT' && Date.now() > deadline) {
      // Immediate shutdown loses nothing either: the next start recovers from the write-ahead log.
      signal = 'SIGQUIT';
      process.kill(pid, signal);
    }
    await sleep(pollMs);
  }
}

/** What must hold whatever postgresql.conf says: who can connect, and that a commit is on disk. */
function serverArguments(
  folder: EmbeddedFolder,
  { port, settings }: { port: number; settings: Readonly<Record<string, string>> },
): string[] {
  const enforced = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    fsync: 'on',
    synchronous_commit: 'on',
    full_page_writes: 'on',
    ...settings,
  };
  const flags = Object.entries(enforced).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  return ['-D', folder.cluster, '-p', String(port), ...flags];
}

/**
 * Waits while the server of this process id starts (a crash's recovery may take long) or stops.
 * `isMine`: just spawned, so that its command line may not be there yet; the caller watches its end.
 */
async function waitUntilReady(
  folder: EmbeddedFolder,
  pid: number,
  isMine = false,
): Promise<RunningServer | undefined> {
  while (isMine ? isAlive(pid) : await isServerOf(pid, folder)) {
    const found = await readPidFile(folder);
    if (found?.pid === pid && found.status === 'ready') return { pid, port: found.port };
    await sleep(pollMs);
  }
  return undefined;
}

/** Lines of postmaster.pid: 1 process, 2 folder, 3 start, 4 port, 5 socket folder, 6 address, 7 memory, 8 status. */
async function readPidFile(folder: EmbeddedFolder): Promise<PidFile | undefined> {
  const text = await readText(join(folder.cluster, 'postmaster.pid'));
  const lines = text?.split('\n') ?? [];
  const pid = Number.parseInt(lines[0] ?? '', 10);
  if (!(pid > 0)) return undefined;
  return { pid, port: Number(lines[3]), status: lines[7]?.trim() ?? 'starting' };
}

/**
 * The file names a living process that is not this cluster's server, which makes Postgres refuse to start.
 * Deleting the file would also delete its check that no session of a killed server still writes (line 7).
 * So it gets this process's id: Postgres takes its own parent for stale and still makes that check.
 */
async function disownPidFile(folder: EmbeddedFolder, stalePid: number): Promise<void> {
  const path = join(folder.cluster, 'postmaster.pid');
  const [first, ...rest] = ((await readText(path)) ?? '').split('\n');
  // Otherwise a server that another process started just now has replaced the file.
  if (Number(first) === stalePid) await writeFile(path, [String(process.pid), ...rest].join('\n'));
}

async function isServerOf(pid: number, folder: EmbeddedFolder): Promise<boolean> {
  if (!isAlive(pid)) return false;
  const words = await commandLine(pid);
  return basename(words[0] ?? '') === 'postgres' && words.includes(folder.cluster);
}

async function commandLine(pid: number): Promise<string[]> {
  if (process.platform === 'linux') return ((await readText(`/proc/${pid}/cmdline`)) ?? '').split('\0');
  // ps joins the words with spaces, so a folder with a space in its name is found by its neighbours.
  const { stdout } = await promisify(execFile)('ps', ['-ww', '-o', 'args=', '-p', String(pid)]).catch(() => ({
    stdout: '',
  }));
  const parts = /^(.*?\/postgres) -D (.*) -p \d+ -c /.exec(stdout);
  return parts === null ? [] : parts.slice(1);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return hasCode(error, 'EPERM');
  }
}

async function readText(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    // ESRCH: the process ended between opening and reading its /proc file.
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ESRCH')) return undefined;
    throw error;
  }
}

async function setLogAside(folder: EmbeddedFolder): Promise<void> {
  try {
    const { size } = await stat(folder.logFile);
    if (size > maxLogBytes) await rename(folder.logFile, `${folder.logFile}.1`);
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error;
  }
}

/** The preferred port if free, else one below the range that systems hand out to outgoing connections. */
export async function findFreePort(preferred: number | undefined): Promise<number> {
  for (let port = preferred; ; port = 20_000 + Math.floor(Math.random() * 12_000)) {
    if (port !== undefined && (await isFree(port))) return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(false));
    probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
  });
}
