/**
 * What the embedded Postgres keeps in DATA_DIR: the cluster, its password and port, its log. Promises that a
 * cluster under its final name is complete: it is made under another name and renamed, so a first start that
 * is killed anywhere leaves only rubbish that the next start removes. Nothing here needs a running server.
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmod,
  chown,
  link,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  realpath,
  rename,
} from 'node:fs/promises';
import { rm, stat, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { PostgresPrograms, ServerAccount } from './embedded-programs.ts';

export const databaseName = 'repeater';
export const userName = 'repeater';
const unfinishedPrefix = 'postgres.unfinished-';
const draftPrefix = 'postgres.json.';

export interface EmbeddedFolder {
  dataDir: string;
  cluster: string;
  accessFile: string;
  logFile: string;
}

/** How to get in. The port is the one used last, so that connection strings in other programs stay right. */
export interface Access {
  password: string;
  port: number | undefined;
}

/** The folder's real paths: Postgres reports its own place without symbolic links, and both are compared. */
export async function openFolder(dataDir: string): Promise<EmbeddedFolder> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const real = await realpath(dataDir);
  return {
    dataDir: real,
    cluster: join(real, 'postgres'),
    accessFile: join(real, 'postgres.json'),
    logFile: join(real, 'postgres.log'),
  };
}

/** The server's account may pass through root's DATA_DIR to its cluster, but neither list nor change it. */
export async function letPass({ dataDir }: EmbeddedFolder, account: ServerAccount): Promise<void> {
  const { mode, uid, gid } = await stat(dataDir);
  if (uid === account.uid || (mode & 0o001) !== 0) return;
  if (gid !== account.gid) await chown(dataDir, uid, account.gid);
  await chmod(dataDir, (mode & 0o700) | 0o010);
}

/** Reads the password, or makes it; of two processes that make one at once, both get the same. */
export async function readOrCreateAccess(folder: EmbeddedFolder): Promise<Access> {
  const present = await readAccess(folder);
  if (present !== undefined) return present;
  if ((await clusterOwner(folder)) !== undefined) {
    throw new Error(
      `${folder.accessFile}, which holds the password of ${folder.cluster}, is missing. Restore it.`,
    );
  }
  const draft = await writeDraft(folder, {
    password: randomBytes(24).toString('base64url'),
    port: undefined,
  });
  try {
    // link, unlike rename, fails when the name is taken.
    await link(draft, folder.accessFile);
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  } finally {
    await unlink(draft);
  }
  await syncFolder(folder.dataDir);
  return readOrCreateAccess(folder);
}

export async function saveAccess(folder: EmbeddedFolder, access: Access): Promise<void> {
  await rename(await writeDraft(folder, access), folder.accessFile);
}

async function readAccess(folder: EmbeddedFolder): Promise<Access | undefined> {
  let text: string;
  try {
    text = await readFile(folder.accessFile, 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
  try {
    const { password, port } = JSON.parse(text) as { password?: unknown; port?: unknown };
    if (typeof password !== 'string') throw new TypeError('no password in it');
    return { password, port: typeof port === 'number' ? port : undefined };
  } catch (cause) {
    throw new Error(`${folder.accessFile} is damaged: it must hold {"password": "...", "port": number}.`, {
      cause,
    });
  }
}

async function writeDraft(folder: EmbeddedFolder, access: Access): Promise<string> {
  const draft = join(folder.dataDir, draftPrefix + randomBytes(6).toString('hex'));
  const file = await open(draft, 'wx', 0o600);
  try {
    await file.writeFile(`${JSON.stringify(access)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  return draft;
}

/** Whom the cluster belongs to; undefined while there is no cluster. */
export async function clusterOwner(folder: EmbeddedFolder): Promise<ServerAccount | undefined> {
  try {
    const { uid, gid } = await stat(folder.cluster);
    return { uid, gid };
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
}

/**
 * Makes the cluster with its one database and the role that owns it. The superuser has no password and the
 * access rules know only SCRAM, so nobody can log in as superuser: whoever gets hold of the connection
 * string can neither read files nor run programs on this machine through it.
 */
export async function createCluster(
  folder: EmbeddedFolder,
  options: { programs: PostgresPrograms; account: ServerAccount | undefined; password: string },
): Promise<void> {
  const { programs, account, password } = options;
  const unfinished = await mkdtemp(join(folder.dataDir, unfinishedPrefix));
  try {
    if (account !== undefined) await chown(unfinished, account.uid, account.gid);
    await runToEnd(programs, [programs.initdb, ...initdbArguments(unfinished)]);
    await writeFile(join(unfinished, 'pg_hba.conf'), `host all all 127.0.0.1/32 scram-sha-256\n`, {
      flush: true,
    });
    await runToEnd(
      programs,
      [programs.postgres, '--single', '-D', unfinished, '-c', 'exit_on_error=true', 'postgres'],
      [
        `create role ${userName} login createdb createrole password '${password}'`,
        `grant pg_monitor, pg_checkpoint to ${userName}`,
        `create database ${databaseName} owner ${userName}`,
      ],
    );
    await rename(unfinished, folder.cluster);
    await syncFolder(folder.dataDir);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true, maxRetries: 5 });
    // Another process that started on this folder at the same time was faster: its cluster is as good.
    if ((await clusterOwner(folder)) === undefined) throw error;
  }
}

/** Settings below are defaults in postgresql.conf, for the admin to tune; what must hold is given at start. */
function initdbArguments(cluster: string): string[] {
  return [
    `--pgdata=${cluster}`,
    '--username=postgres',
    '--auth=reject',
    '--encoding=UTF8',
    '--locale-provider=builtin',
    '--builtin-locale=C.UTF-8',
    '--set=shared_buffers=128MB',
    '--set=max_connections=100',
    '--set=max_wal_size=4GB',
    '--set=timezone=UTC',
    '--set=log_timezone=UTC',
  ];
}

/** Removes what killed first starts left. For the owner of the folder only: it may be another's work. */
export async function removeUnfinished(folder: EmbeddedFolder): Promise<void> {
  for (const name of await readdir(folder.dataDir)) {
    if (!name.startsWith(unfinishedPrefix) && !name.startsWith(draftPrefix)) continue;
    // An initdb whose parent was killed may still be writing, hence the retries.
    await rm(join(folder.dataDir, name), { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
  }
}

async function runToEnd(
  programs: PostgresPrograms,
  [program, ...args]: [string, ...string[]],
  inputLines: string[] = [],
): Promise<void> {
  const { file, args: allArgs, options } = programs.command(program, args);
  await new Promise<void>((resolve, reject) => {
    const child = execFile(file, allArgs, { ...options, encoding: 'utf8' }, (error, stdout, stderr) => {
      if (error === null) resolve();
      else reject(new Error(`${program} failed: ${stderr || stdout || error.message}`, { cause: error }));
    });
    // A program that ends early closes its input; its exit code and output tell why, not the broken pipe.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(inputLines.map((line) => `${line}\n`).join(''));
  });
}

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

export function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
