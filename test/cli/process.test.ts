/** What only a process shows: Ctrl-C, pipes that close, exit codes, and the entry on an older Node. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { adminToken, type Route, startStandIn } from './stand-in.ts';

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const bin = fileURLToPath(new URL('../../src/cli/bin.js', import.meta.url));

async function launch(context: TestContext, routes: Record<string, Route>, argv: string[]) {
  const standIn = await startStandIn(routes);
  const env = { ...process.env, REPEATER_URL: standIn.url, ADMIN_TOKEN: adminToken };
  const child = spawn(process.execPath, [main, ...argv], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  context.after(async () => {
    child.kill('SIGKILL');
    await standIn.close();
  });
  return { child, standIn, output: collect(child) };
}

function collect(child: ChildProcess) {
  const output = { stdout: '', stderr: '' };
  child.stdout?.on('data', (chunk: Buffer) => (output.stdout += chunk.toString()));
  child.stderr?.on('data', (chunk: Buffer) => (output.stderr += chunk.toString()));
  return output;
}

const replay = {
  id: 'rpl_3',
  destinationId: 'dst_2',
  selection: {},
  order: 'alongside',
  state: 'running',
  total: 100,
  done: 10,
  delivered: 10,
  dead: 0,
  filtered: 0,
  ratePerSecond: null,
  etaSeconds: null,
  createdAt: '2026-11-24T08:30:00.000Z',
  finishedAt: null,
};

test('Ctrl-C leaves a replay running and says how to watch and cancel it', async (context) => {
  const { child, output, standIn } = await launch(
    context,
    { 'GET /admin/replays/rpl_3': () => ({ json: replay }) },
    ['replays', 'watch', 'rpl_3'],
  );
  await once(child.stdout, 'data');
  child.kill('SIGINT');
  const [code] = (await once(child, 'close')) as [number];
  assert.equal(code, 130);
  assert.match(
    output.stderr,
    /goes on without you\. Watch it: repeater replays watch rpl_3\nCancel it: repeater replays cancel rpl_3\n/,
  );
  assert.ok(standIn.seen.every(({ line }) => line.startsWith('GET ')));
});

test('a pipe that closes early ends an endless command quietly', async (context) => {
  const { child, output } = await launch(
    context,
    {
      'GET /admin/events/export': (_request, response) => {
        const line = `${JSON.stringify({ position: 1 })}\n`.repeat(1000);
        const more = setInterval(() => response.write(line), 1);
        response.on('close', () => clearInterval(more));
      },
    },
    ['events', 'export'],
  );
  await once(child.stdout, 'data');
  child.stdout?.destroy();
  const [code] = (await once(child, 'close')) as [number];
  assert.equal(code, 0, output.stderr);
  assert.equal(output.stderr, '');
});

test('exit codes and bad variables', () => {
  const repeater = (argv: string[], env: Record<string, string> = {}) =>
    spawnSync(process.execPath, [main, ...argv], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], ...env },
    });
  assert.equal(repeater(['--version']).status, 0);
  assert.equal(repeater(['nonsense']).status, 2);
  assert.equal(repeater(['sources', '--url', 'http://127.0.0.1:1', '--token', 'x']).status, 1);
  const wrong = repeater(['serve'], { PORT: 'x', ROLE: 'y' });
  assert.equal(wrong.status, 2);
  assert.match(wrong.stderr, /The environment is not valid:\n {2}PORT="x": .*\n {2}ROLE="y": /);
});

/** A project whose program is a stand-in, with or without the pinned Node. */
async function copyOfBin(context: TestContext, options: { isPinned: boolean }): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'repeater-bin-'));
  context.after(() => rm(folder, { recursive: true }));
  await mkdir(join(folder, 'src/cli'), { recursive: true });
  await mkdir(join(folder, 'node_modules/node/bin'), { recursive: true });
  await cp(bin, join(folder, 'src/cli/bin.js'));
  await writeFile(join(folder, 'package.json'), '{"type":"module"}');
  await writeFile(
    join(folder, 'src/main.ts'),
    `const code: number = 7;
     process.on('SIGTERM', () => { console.log('stopping'); process.exit(code); });
     console.log('ready', Number(process.versions.node.split('.')[0]) >= 24, process.argv.slice(2).join(' '));
     if (process.argv[2] === 'wait') setInterval(() => {}, 1000); else process.exit(code);`,
  );
  if (options.isPinned) await symlink(process.execPath, join(folder, 'node_modules/node/bin/node'));
  return join(folder, 'src/cli/bin.js');
}

/** Makes any Node claim to be version 20: what the entry looks at. */
const asNode20 = [
  '--import',
  `data:text/javascript,Object.defineProperty(process,'versions',{value:{...process.versions,node:'20.20.2'}})`,
];

test('on Node 24 the entry runs the program itself', async (context) => {
  const { status, stdout } = spawnSync(
    process.execPath,
    [await copyOfBin(context, { isPinned: false }), 'a', 'b'],
    { encoding: 'utf8' },
  );
  assert.equal(stdout, 'ready true a b\n');
  assert.equal(status, 7);
});

test('on an older Node it runs the pinned one: arguments, signals, exit code', async (context) => {
  const path = await copyOfBin(context, { isPinned: true });
  const quick = spawnSync(process.execPath, [...asNode20, path, 'a b', 'c'], { encoding: 'utf8' });
  assert.equal(quick.stdout, 'ready true a b c\n');
  assert.equal(quick.status, 7);

  const child = spawn(process.execPath, [...asNode20, path, 'wait'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const output = collect(child);
  await once(child.stdout, 'data');
  child.kill('SIGTERM');
  const [code] = (await once(child, 'close')) as [number];
  assert.equal(code, 7);
  assert.match(output.stdout, /stopping/);
});

test('on an older Node without the pinned one it says what to do', async (context) => {
  const { status, stderr } = spawnSync(
    process.execPath,
    [...asNode20, await copyOfBin(context, { isPinned: false })],
    { encoding: 'utf8' },
  );
  assert.equal(status, 1);
  assert.match(stderr, /Repeater needs Node\.js 24 or later.*npm ci/s);
});
