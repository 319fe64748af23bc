/**
 * What a stranger does, with the real program in an empty folder: the tour of README.md is typed command by command
 * and must print what README.md shows; then the program is killed in every way and started again. The embedded
 * PostgreSQL and everything else is as after `npm ci && npm start`.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { openPool } from '../../src/db/client.ts';
import { main, type RepeaterProcess, startRepeater } from '../support/process.ts';
import { readTypedCommands, type TypedCommand } from '../support/readme.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));
/** Nothing is set but what the tour sets, and a port that is free. */
const strangersEnvironment = { ADMIN_TOKEN: '', WRITE_KEY: '', SECRET_KEY: '' };

let folder: string;
let repeater: RepeaterProcess;
let banner: string;
let receiver: { readonly port: number; child?: ChildProcess; lines: string[] };
let receiverShown: readonly string[] = [];
/** What a reader copies from one step into another. */
let secret = '';

const dataDir = () => join(folder, 'data');

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'repeater-first-run-'));
  // Started as root, PostgreSQL runs as another user, who must get there.
  await chmod(folder, 0o711);
  receiver = { port: await freePort(), lines: [] };
});

after(async () => {
  receiver.child?.kill();
  const postmaster = await postmasterPid().catch(() => null);
  await repeater?.kill('SIGTERM');
  if (postmaster !== null && isAlive(postmaster)) process.kill(postmaster, 'SIGQUIT');
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
});

async function start(): Promise<{ seconds: number }> {
  const startedAt = performance.now();
  repeater = await startRepeater({ ...strangersEnvironment, DATA_DIR: dataDir() });
  const seconds = (performance.now() - startedAt) / 1000;
  await until('the banner', () => repeater.output().includes('replays create --help'));
  banner = repeater.output();
  return { seconds };
}

async function until(what: string, holds: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 15_000; !holds(); await sleep(20)) {
    if (Date.now() > deadline) assert.fail(`${what} did not come`);
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  return port;
}

const fact = (name: string): string => new RegExp(`^  ${name} +(\\S+)$`, 'm').exec(banner)?.[1] ?? '';
const postmasterPid = async () =>
  Number((await readFile(join(dataDir(), 'postgres/postmaster.pid'), 'utf8')).split('\n')[0]);

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Types a line into a shell in the project's folder. `npx` is spared: it only looks the program up. */
async function type(line: string): Promise<{ code: number; stdout: string; stderr: string }> {
  const functions = 'npx() { shift; "$NODE" "$MAIN" "$@"; }; node() { "$NODE" "$@"; }';
  const env = {
    PATH: process.env['PATH'],
    HOME: process.env['HOME'],
    NODE: process.execPath,
    MAIN: main,
    DATA_DIR: dataDir(),
    WRITE_KEY: fact('Write key'),
  };
  const child = spawn('sh', ['-c', `${functions}; ${line}`], { cwd: project, env });
  const written = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk: Buffer) => (written.stdout += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (written.stderr += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number];
  return { code, ...written };
}

/** The command as it must be typed here and now. */
function filledIn(command: string): string {
  return command
    .replaceAll('http://127.0.0.1:8080', repeater.address)
    .replaceAll('127.0.0.1:9000', `127.0.0.1:${receiver.port}`)
    .replaceAll('whsec_…', secret)
    .replace(/send-orders\.js$/, `send-orders.js ${repeater.address}`)
    .replace(/(receive\.js \S+)$/, `$1 ${receiver.port}`);
}

/** Lines without what differs from run to run, and without states of progress before the last. */
function comparable(lines: readonly string[]): string[] {
  return lines
    .filter((line) => !/^[█░]+ +\d\d? %/.test(line))
    .map((line) =>
      line
        .replaceAll(repeater.address, 'http://127.0.0.1:8080')
        .replaceAll(`127.0.0.1:${receiver.port}`, '127.0.0.1:9000')
        .replace(/postgres:\/\/repeater:\S+@127\.0\.0\.1:\d+/, 'postgres')
        .replaceAll(/whsec_\S+|••••\S+|rpt_\S+|[\w-]{32}(?=:|$)|[\w-]+…/g, '…')
        .replaceAll(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+\+00)?/g, 'date')
        .replaceAll(/\d\d:\d\d:\d\d/g, 'clock')
        .replace(/\(ready in [\d.]+ s;/, '(ready;')
        .replace(/ in [\d.]+ s \([\d,.]+\/s\)/, '')
        .replaceAll(/─+/g, '─')
        .replaceAll(/ {2,}/g, '  ')
        .trimEnd(),
    );
}

async function startReceiver({ command, output }: TypedCommand): Promise<void> {
  receiverShown = output;
  const [, ...argv] = filledIn(command).split(' ');
  const child = spawn(process.execPath, argv, { cwd: project, stdio: ['ignore', 'pipe', 'inherit'] });
  receiver.child = child;
  child.stdout.on('data', (chunk: Buffer) => receiver.lines.push(...chunk.toString().trimEnd().split('\n')));
  await until('the receiver', () => receiver.lines.length > 0);
}

/** Each user's lines, in order; how users alternate is nobody's promise. */
const byUser = (lines: readonly string[]) =>
  ['ann', 'ben', 'eve'].map((user) => lines.filter((line) => line.includes(`  ${user}  `)));

async function hasCurl(): Promise<boolean> {
  return promisify(execFile)('curl', ['--version']).then(
    () => true,
    () => false,
  );
}

test('one command, nothing set: addresses, keys and a line to paste, as README.md shows them', async (context) => {
  const { seconds } = await start();
  context.diagnostic(`first start: ${seconds.toFixed(1)} s`);
  assert.ok(seconds < 60, `${seconds} s`);
  const [shown] = await readTypedCommands('A five-minute tour');
  assert.equal(shown?.command, 'ALLOW_PRIVATE_DESTINATIONS=true npm start');
  const lines = comparable(banner.slice(banner.indexOf('\n\n')).split('\n'));
  assert.deepEqual(lines.slice(1, 1 + shown.output.length), comparable(shown.output));
});

test('the tour of README.md prints what README.md shows', async (context) => {
  const [, ...tour] = await readTypedCommands('A five-minute tour');
  assert.ok(tour.length >= 8, `${tour.length} commands`);
  for (const step of tour) await follow(context, step);
  assert.deepEqual(byUser(receiver.lines.slice(0, receiverShown.length)), byUser(receiverShown));
});

async function follow(context: TestContext, step: TypedCommand): Promise<void> {
  const { command, output } = step;
  if (command.includes('receive.js')) return startReceiver(step);
  if (command.startsWith('curl') && !(await hasCurl())) {
    context.diagnostic('there is no curl here: its line was not typed');
    const body = /'(\{.*\})'/.exec(command)?.[1] ?? '';
    const authorization = `Basic ${btoa(`${fact('Write key')}:`)}`;
    await fetch(`${repeater.address}/v1/track`, { method: 'POST', headers: { authorization }, body });
    return;
  }
  // Delivery is told when it is written down, a moment after the receiver has it.
  for (let tries = 0; ; tries++) {
    const { code, stdout, stderr } = await type(filledIn(command));
    assert.equal(code, 0, `${command}\n${stdout}${stderr}`);
    secret = /whsec_\S+/.exec(stdout)?.[0] ?? secret;
    try {
      assert.deepEqual(
        comparable(stdout.trimEnd().split('\n')),
        comparable(output.length > 0 ? output : ['']),
      );
      break;
    } catch (error) {
      if (!command.includes('status') || tries === 20) throw error;
      await sleep(100);
    }
  }
  if (command.includes('send-orders')) {
    await until('nine deliveries', () => receiver.lines.length === receiverShown.length);
  }
}

test('exactly the previewed events were replayed, each user in order, and marked as replayed', async () => {
  const replayed = receiver.lines.slice(receiverShown.length);
  assert.equal(replayed.length, 6);
  const expected = (user: string) =>
    [1, 2, 3].map(
      (order) => `/audit  rpl_3  ${user}  Order Completed  {"order":${order},"total":${10 * order}}`,
    );
  assert.deepEqual(byUser(replayed), [expected('ann'), expected('ben'), []]);
  const { stdout } = await type('npx repeater replays show rpl_3 --json');
  const { state, total, done, delivered, dead, ratePerSecond, etaSeconds } = JSON.parse(stdout);
  assert.deepEqual(
    { state, total, done, delivered, dead, ratePerSecond, etaSeconds },
    { state: 'completed', total: 6, done: 6, delivered: 6, dead: 0, ratePerSecond: null, etaSeconds: 0 },
  );
});

test('the connection string opens the same table for psql and BI tools', async () => {
  const sql = openPool(fact('SQL'), 'admin', { max: 1 });
  try {
    const [row] =
      await sql`select count(*)::int as events, count(distinct user_id)::int as users from warehouse.events`;
    assert.deepEqual({ ...row }, { events: 10, users: 4 });
  } finally {
    await sql.end({ timeout: 5 });
  }
});

test('an export has the promised fields in every line', async () => {
  const { stdout } = await type('npx repeater events export --from yesterday --user eve');
  const lines = stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  assert.deepEqual(
    lines.map(({ event }) => event.properties.order),
    [1, 2, 3],
  );
  for (const line of lines) {
    const { position, messageId, type: kind, userId, anonymousId, receivedAt, timestamp, event } = line;
    assert.deepEqual([kind, userId, anonymousId, event.messageId], ['track', 'eve', null, messageId]);
    assert.ok(Number.isInteger(position));
    assert.ok(!Number.isNaN(Date.parse(receivedAt)) && !Number.isNaN(Date.parse(timestamp)));
  }
});

/** What must be the same after any restart. */
async function remembered(): Promise<unknown> {
  const read = async (line: string) => JSON.parse((await type(line)).stdout) as unknown;
  return {
    keys: [fact('Write key'), fact('Admin token'), fact('SQL')],
    events: await read('npx repeater sql --json "select id, payload from warehouse.events order by id"'),
    destinations: await read('npx repeater destinations --json'),
    replays: await read('npx repeater replays --json'),
  };
}

test('after kill -9 of Node alone PostgreSQL is adopted, and everything is there', async (context) => {
  const postmaster = await postmasterPid();
  const known = await remembered();
  await repeater.kill('SIGKILL');
  assert.ok(isAlive(postmaster), 'PostgreSQL survives its owner');
  const { seconds } = await start();
  context.diagnostic(`start with the PostgreSQL that was still there: ${seconds.toFixed(1)} s`);
  assert.equal(await postmasterPid(), postmaster);
  assert.deepEqual(await remembered(), known);
});

test('after kill -9 of everything it starts within seconds, and everything is there', async (context) => {
  const postmaster = await postmasterPid();
  const known = await remembered();
  const { stdout } = await promisify(execFile)('ps', ['-A', '-o', 'pid=,ppid=']);
  const backends = stdout
    .split('\n')
    .map((line) => line.trim().split(/ +/).map(Number))
    .filter(([, parent]) => parent === postmaster)
    .map(([pid = 0]) => pid);
  assert.ok(backends.length > 3, `${backends.length} processes of PostgreSQL`);
  for (const pid of [repeater.child.pid ?? 0, postmaster, ...backends]) process.kill(pid, 'SIGKILL');
  await repeater.kill('SIGKILL');
  const { seconds } = await start();
  context.diagnostic(`start after everything was killed: ${seconds.toFixed(1)} s (5 s are promised)`);
  assert.ok(seconds < 20, `${seconds} s`);
  assert.notEqual(await postmasterPid(), postmaster);
  assert.deepEqual(await remembered(), known);
});

test('a second start in the same folder, and a start on a taken port, say what is wrong', async () => {
  const again = startRepeater({ ...strangersEnvironment, DATA_DIR: dataDir() });
  await assert.rejects(again, /ended with 1:\nrepeater: .*Another Repeater is running with DATA_DIR/);
  const { secretKey } = JSON.parse(await readFile(join(dataDir(), 'repeater.json'), 'utf8'));
  const beside = { ...strangersEnvironment, SECRET_KEY: secretKey, DATABASE_URL: fact('SQL') };
  const taken = startRepeater({ ...beside, PORT: String(repeater.port) });
  await assert.rejects(taken, /Port \d+ is in use .*\nIs it running already\?/);
  const unknownHost = startRepeater({ ...beside, HOST: 'no.invalid' });
  await assert.rejects(unknownHost, /repeater: no\.invalid is no address of this machine \(HOST\)/);
});

test('Ctrl-C stops it and its PostgreSQL, and the next start delivers on', async () => {
  const postmaster = await postmasterPid();
  await repeater.kill('SIGINT');
  assert.equal(repeater.child.exitCode, 0, repeater.output());
  assert.ok(!isAlive(postmaster));
  const { code, stderr } = await type('npx repeater sources');
  assert.equal(code, 1);
  assert.match(stderr, /Nothing answers at .*\nIs the server running\? Start it with "npm start"/);

  await start();
  const before = receiver.lines.length;
  await type(filledIn('node docs/tour/send-orders.js'));
  await until('the orders at both webhooks', () => receiver.lines.length === before + 18);
  const live = receiver.lines.slice(before).filter((line) => line.startsWith('/orders  live'));
  assert.deepEqual(byUser(live), byUser(receiverShown));
});
