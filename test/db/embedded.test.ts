/**
 * The embedded Postgres against everything that can be killed, with real processes. Each test has a data
 * folder of its own; the Repeater in it is test/support/embedded-owner.ts.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import postgres from 'postgres';

const ownerProgram = fileURLToPath(new URL('../support/embedded-owner.ts', import.meta.url));
const isRoot = process.getuid?.() === 0;
const root = await mkdtemp(join(tmpdir(), 'repeater-embedded-'));
await chmod(root, 0o755);
const owners = new Set<ChildProcess>();
let folders = 0;

after(async () => {
  for (const owner of owners) await stopInOrder(owner);
  for (const name of await readdir(root)) await killServer(join(root, name, 'data'));
  await rm(root, { recursive: true, force: true, maxRetries: 10 });
});

async function newDataDir(parentMode = 0o755): Promise<string> {
  const parent = join(root, String(folders++));
  await mkdir(parent);
  await chmod(parent, parentMode);
  return join(parent, 'data');
}

/** Its own process group, so that tests can send it what a terminal sends. */
function spawnOwner(dataDir: string): ChildProcess {
  const owner = spawn(process.execPath, [ownerProgram, dataDir], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  owners.add(owner);
  owner.once('exit', () => owners.delete(owner));
  return owner;
}

type Announcement = { url: string; adopted: boolean } | { error: string };

async function announcement(owner: ChildProcess): Promise<Announcement> {
  assert.ok(owner.stdout);
  for await (const line of createInterface({ input: owner.stdout })) return JSON.parse(line) as Announcement;
  throw new Error('the owner ended without a word');
}

async function start(dataDir: string): Promise<{ owner: ChildProcess; url: string; adopted: boolean }> {
  const owner = spawnOwner(dataDir);
  const said = await announcement(owner);
  if ('error' in said) throw new Error(said.error);
  return { owner, ...said };
}

async function stopInOrder(owner: ChildProcess): Promise<void> {
  const exit = once(owner, 'exit');
  owner.kill('SIGTERM');
  await exit;
}

async function kill(owner: ChildProcess): Promise<void> {
  const exit = once(owner, 'exit');
  owner.kill('SIGKILL');
  await exit;
}

async function withSql<T>(url: string, use: (sql: postgres.Sql) => Promise<T>): Promise<T> {
  const sql = postgres(url, { max: 1, connect_timeout: 5 });
  try {
    return await use(sql);
  } finally {
    await sql.end();
  }
}

const remember = (url: string): Promise<unknown> =>
  withSql(url, (sql) => sql`create table kept as select 'still here' as words`);
const recall = (url: string): Promise<unknown> =>
  withSql(url, async (sql) => (await sql`select words from kept`)[0]?.['words']);

async function serverPid(dataDir: string): Promise<number | undefined> {
  const text = await readFile(join(dataDir, 'postgres', 'postmaster.pid'), 'utf8').catch(() => '');
  return text === '' ? undefined : Number.parseInt(text, 10);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Only what a test left behind by failing; a pid file that a test has tampered with names no server. */
async function killServer(dataDir: string): Promise<void> {
  const pid = await serverPid(dataDir);
  const words = pid === undefined ? '' : await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  if (pid !== undefined && words.includes(dataDir)) process.kill(pid, 'SIGQUIT');
}

/** kill -9 of Node, the server and every server process, as when a container is killed. */
async function killTree(owner: ChildProcess, url: string, dataDir: string): Promise<void> {
  const pids = await withSql(url, async (sql) =>
    (await sql`select pid from pg_stat_activity`).map((row) => row['pid']),
  );
  const server = await serverPid(dataDir);
  assert.ok(server);
  await kill(owner);
  for (const pid of [server, ...pids]) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
  for (const pid of [server, ...pids]) while (isAlive(pid)) await sleep(5);
}

test('a first start makes a closed UTF-8 cluster behind a password', async () => {
  const dataDir = await newDataDir();
  const { owner, url, adopted } = await start(dataDir);
  assert.equal(adopted, false);

  const [facts] = await withSql(
    url,
    (sql) => sql`
      select current_database() as database, pg_encoding_to_char(encoding) as encoding, datlocprovider as provider,
             datlocale as locale, rolsuper as superuser, current_setting('listen_addresses') as addresses,
             current_setting('unix_socket_directories') as sockets, current_setting('fsync') as fsync,
             current_setting('full_page_writes') as pages, current_setting('synchronous_commit') as commits
      from pg_database, pg_roles where datname = current_database() and rolname = current_user`,
  );
  assert.deepEqual(
    { ...facts },
    {
      database: 'repeater',
      encoding: 'UTF8',
      provider: 'b',
      locale: 'C.UTF-8',
      superuser: false,
      addresses: '127.0.0.1',
      sockets: '',
      fsync: 'on',
      pages: 'on',
      commits: 'on',
    },
  );

  assert.equal((await stat(join(dataDir, 'postgres'))).mode & 0o777, 0o700);
  assert.equal((await stat(join(dataDir, 'postgres.json'))).mode & 0o777, 0o600);
  // Root's folder lets the server's group pass, an ordinary user's nobody.
  assert.equal((await stat(dataDir)).mode & 0o777, isRoot ? 0o710 : 0o700);
  await stopInOrder(owner);
});

test('the password is asked for, and no superuser can log in', async () => {
  const dataDir = await newDataDir();
  const { owner, url } = await start(dataDir);
  const wrong = new URL(url);
  wrong.password = 'wrong';
  await assert.rejects(
    withSql(wrong.href, (sql) => sql`select 1`),
    { code: '28P01' },
  );
  const superuser = new URL(url);
  superuser.username = 'postgres';
  await assert.rejects(
    withSql(superuser.href, (sql) => sql`select 1`),
    { code: '28P01' },
  );
  await stopInOrder(owner);
});

test('it listens on loopback only', async () => {
  const { owner, url } = await start(await newDataDir());
  const port = Number(new URL(url).port);
  const outside = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  for (const { address, internal, family } of outside) {
    if (internal || address.startsWith('fe80')) continue;
    assert.equal(await answers(address, port), false, `${family} ${address}`);
  }
  assert.equal(await answers('127.0.0.1', port), true);
  await stopInOrder(owner);
});

async function answers(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: 1000 });
    const end = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => end(true));
    socket.once('error', () => end(false));
    socket.once('timeout', () => end(false));
  });
}

test('a later start has the same address and data, and is up within a second', async () => {
  const dataDir = await newDataDir();
  const first = await start(dataDir);
  await remember(first.url);
  const pid = await serverPid(dataDir);
  await stopInOrder(first.owner);
  assert.ok(pid);
  assert.equal(isAlive(pid), false, 'stop() returns when the server is gone');

  const before = performance.now();
  const second = await start(dataDir);
  // The owner's own start of Node is in this time too.
  assert.ok(performance.now() - before < 2000, `took ${performance.now() - before} ms`);
  assert.equal(second.adopted, false);
  assert.equal(second.url, first.url);
  assert.equal(await recall(second.url), 'still here');
  await stopInOrder(second.owner);
});

test('a port that was taken meanwhile is replaced', async () => {
  const dataDir = await newDataDir();
  const first = await start(dataDir);
  await stopInOrder(first.owner);
  const squatter = createServer().listen(Number(new URL(first.url).port), '127.0.0.1');
  await once(squatter, 'listening');
  const second = await start(dataDir);
  squatter.close();
  assert.notEqual(second.url, first.url);
  await stopInOrder(second.owner);
  const third = await start(dataDir);
  assert.equal(third.url, second.url);
  await stopInOrder(third.owner);
});

test('after kill -9 of Node alone the living server is adopted, and stopped in order later', async () => {
  const dataDir = await newDataDir();
  const first = await start(dataDir);
  await remember(first.url);
  const pid = await serverPid(dataDir);
  await kill(first.owner);

  const second = await start(dataDir);
  assert.equal(second.adopted, true);
  assert.equal(second.url, first.url);
  assert.equal(await serverPid(dataDir), pid);
  assert.equal(await recall(second.url), 'still here');
  await stopInOrder(second.owner);
  assert.equal(await serverPid(dataDir), undefined);
});

test('after kill -9 of the whole tree it recovers from the stale postmaster.pid', async () => {
  const dataDir = await newDataDir();
  const first = await start(dataDir);
  await remember(first.url);
  await killTree(first.owner, first.url, dataDir);
  assert.ok(await serverPid(dataDir), 'the kill left postmaster.pid');

  const second = await start(dataDir);
  assert.equal(second.adopted, false);
  assert.equal(await recall(second.url), 'still here');
  await stopInOrder(second.owner);
});

test("a stale postmaster.pid may name another program's process by now", async () => {
  const dataDir = await newDataDir();
  const first = await start(dataDir);
  await remember(first.url);
  await killTree(first.owner, first.url, dataDir);

  // Of the server's own account: of any other, Postgres itself knows that it is stale.
  const { uid, gid } = await stat(join(dataDir, 'postgres'));
  const stranger = spawn('sleep', ['600'], { cwd: '/', stdio: 'ignore', ...(isRoot ? { uid, gid } : {}) });
  try {
    const pidFile = join(dataDir, 'postgres', 'postmaster.pid');
    const lines = (await readFile(pidFile, 'utf8')).split('\n');
    await writeFile(pidFile, [String(stranger.pid), ...lines.slice(1)].join('\n'));

    const second = await start(dataDir);
    assert.equal(second.adopted, false);
    assert.equal(await recall(second.url), 'still here');
    await stopInOrder(second.owner);
    assert.equal(stranger.exitCode ?? stranger.signalCode, null, 'the stranger was left alone');
  } finally {
    stranger.kill('SIGKILL');
  }
});

test('a first start killed at any moment does not wedge the next', async () => {
  for (const delayMs of [0, 30, 100, 200, 300, 400]) {
    const dataDir = await newDataDir();
    const victim = spawnOwner(dataDir);
    const unfinished = await appears(dataDir, 'postgres.unfinished-');
    await sleep(delayMs);
    await kill(victim);

    const { owner, url } = await start(dataDir);
    await remember(url);
    assert.deepEqual(
      (await readdir(dataDir)).filter((name) => name.startsWith('postgres.unfinished-')),
      [],
      `killed ${delayMs} ms after ${unfinished} appeared`,
    );
    await stopInOrder(owner);
  }
});

async function appears(folder: string, prefix: string): Promise<string> {
  for (;;) {
    const names = await readdir(folder).catch(() => []);
    const found = names.find((name) => name.startsWith(prefix));
    if (found !== undefined) return found;
    await sleep(2);
  }
}

test('a second Repeater on the same folder is told so and disturbs nothing', async () => {
  const dataDir = await newDataDir();
  const first = await start(dataDir);
  const second = await announcement(spawnOwner(dataDir));
  assert.ok('error' in second);
  assert.match(second.error, /Another Repeater is running with DATA_DIR .*DATABASE_URL/);
  await remember(first.url);
  await stopInOrder(first.owner);
});

test('a Repeater started while the one before still stops waits for it', async () => {
  const dataDir = await newDataDir();
  const first = await start(dataDir);
  await remember(first.url);
  const second = spawnOwner(dataDir);
  // The second has found the first's server by now, and waits for its owner to go.
  await withSql(first.url, async (sql) => {
    const owners = () => sql`select from pg_stat_activity where application_name = 'repeater owner'`;
    while ((await owners()).length < 2) await sleep(5);
  });
  await stopInOrder(first.owner);
  const said = await announcement(second);
  assert.ok('url' in said, JSON.stringify(said));
  assert.equal(await recall(said.url), 'still here');
  await stopInOrder(second);
});

test('of two first starts at the same moment exactly one gets the folder', async () => {
  const dataDir = await newDataDir();
  const [one, two] = [spawnOwner(dataDir), spawnOwner(dataDir)];
  const said = await Promise.all([announcement(one), announcement(two)]);
  const refused = said.filter((each) => 'error' in each);
  assert.equal(refused.length, 1, JSON.stringify(said));
  assert.match(refused[0]?.error ?? '', /Another Repeater/);
  const winner = said.find((each) => 'url' in each);
  assert.ok(winner);
  await remember(winner.url);
});

test("a terminal's Ctrl-C reaches Node, not the server", async () => {
  const dataDir = await newDataDir();
  const { owner, url } = await start(dataDir);
  assert.ok(owner.pid);
  process.kill(-owner.pid, 'SIGINT');
  await sleep(300);
  await remember(url);
  await stopInOrder(owner);
});

test('root can keep it below a folder that only root may enter', { skip: !isRoot }, async () => {
  const dataDir = await newDataDir(0o700);
  const { owner, url } = await start(dataDir);
  await remember(url);
  await kill(owner);
  const second = await start(dataDir);
  assert.equal(second.adopted, true);
  await stopInOrder(second.owner);
});
