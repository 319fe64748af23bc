/** Finding the server, and what commands say when it is not there, is another program, or refuses. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { findServer } from '../../src/cli/client.ts';
import { readInstallationFile, writeInstallationFile } from '../../src/cli/installation-file.ts';
import { adminToken, type Answer, type Route, run, startStandIn } from './stand-in.ts';

async function dataFolder(context: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'repeater-cli-'));
  context.after(() => rm(folder, { recursive: true }));
  return folder;
}

async function serve(context: TestContext, routes: Record<string, Route>) {
  const standIn = await startStandIn(routes);
  context.after(() => standIn.close());
  return standIn;
}

test('address and token: options, then environment, then what the server left in DATA_DIR', async (context) => {
  const dataDir = await dataFolder(context);
  const nothing = { repeaterUrl: null, port: 8080, adminToken: null, dataDir };
  await assert.rejects(findServer(nothing), /no admin token for http:\/\/127\.0\.0\.1:8080/);

  await writeInstallationFile(dataDir, { adminToken: 'kept', address: 'http://127.0.0.1:9999' });
  assert.equal((await stat(join(dataDir, 'repeater.json'))).mode & 0o777, 0o600);
  assert.deepEqual(await findServer(nothing), { baseUrl: 'http://127.0.0.1:9999', token: 'kept' });

  const environment = { ...nothing, repeaterUrl: 'https://events.example.com', adminToken: 'given' };
  assert.deepEqual(await findServer(environment), { baseUrl: 'https://events.example.com', token: 'given' });
  const options = { url: 'http://other/', token: 'typed' };
  assert.deepEqual(await findServer(environment, options), { baseUrl: 'http://other', token: 'typed' });
});

test('the token kept for this machine is not sent to another server', async (context) => {
  const dataDir = await dataFolder(context);
  await writeInstallationFile(dataDir, { adminToken: 'kept', address: 'http://127.0.0.1:9999' });
  const config = { repeaterUrl: null, port: 8080, adminToken: null, dataDir };
  await assert.rejects(
    findServer(config, { url: 'http://evil.example' }),
    /no admin token for http:\/\/evil\.example/,
  );
  await assert.rejects(findServer({ ...config, repeaterUrl: 'http://evil.example' }), /no admin token/);
  assert.equal((await findServer(config, { url: 'http://127.0.0.1:9999/' })).token, 'kept');
});

test('a damaged file is said to be damaged, and keeps being there', async (context) => {
  const dataDir = await dataFolder(context);
  await writeInstallationFile(dataDir, { adminToken: 'kept' });
  const { writeFile } = await import('node:fs/promises');
  await writeFile(join(dataDir, 'repeater.json'), '{"adminTok');
  await assert.rejects(readInstallationFile(dataDir), /repeater\.json is damaged/);
});

test('lists are read through `next`', async (context) => {
  const pages: Record<string, Answer> = {
    '': { json: { data: [{ id: 'src_1' }, { id: 'src_2' }], next: 'two' } },
    two: { json: { data: [{ id: 'src_3' }], next: null } },
  };
  const standIn = await serve(context, {
    'GET /admin/sources': ({ query }) => pages[query.get('cursor') ?? ''],
  });
  const { code, stdout } = await run(['sources', '--json'], { standIn });
  assert.equal(code, 0);
  assert.deepEqual(JSON.parse(stdout), [{ id: 'src_1' }, { id: 'src_2' }, { id: 'src_3' }]);
  assert.equal(standIn.seen[0]?.headers.authorization, `Bearer ${adminToken}`);
});

test('a limit is asked for once and kept', async (context) => {
  const data = Array.from({ length: 5 }, (_, index) => ({ id: `rpl_${index}` }));
  const standIn = await serve(context, { 'GET /admin/replays': () => ({ json: { data, next: 'more' } }) });
  const { stdout } = await run(['replays', '--limit', '5', '--json'], { standIn });
  assert.equal((JSON.parse(stdout) as unknown[]).length, 5);
  assert.deepEqual(
    standIn.seen.map(({ line }) => line),
    ['GET /admin/replays?limit=5'],
  );
});

test('nobody answers: says how to start the server', async () => {
  const standIn = await startStandIn({});
  await standIn.close();
  const { code, stderr, stdout } = await run(['sources'], { standIn });
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(
    stderr,
    /Nothing answers at http:\/\/127\.0\.0\.1:\d+ \(ECONNREFUSED\)\.\nIs the server running\? Start it with "npm start"/,
  );
});

test('another program answers', async (context) => {
  const standIn = await serve(context, { 'GET /admin/sources': () => ({ text: '<h1>hello</h1>' }) });
  const { code, stderr } = await run(['sources'], { standIn });
  assert.equal(code, 1);
  assert.match(stderr, /answers \(status 200, text\/html\), but not as Repeater does/);
});

test('a wrong token, and a refusal with details per field', async (context) => {
  const refusals: Record<string, Answer> = {
    wrong: { status: 401, json: { code: 'unauthorized', message: 'A valid admin token is required.' } },
    bad: {
      status: 400,
      json: {
        code: 'invalid_request',
        message: 'name: expected a name of 1 to 200 characters, got "".',
        details: [
          { field: 'name', expected: 'a name of 1 to 200 characters', got: '""' },
          { field: 'color\u001b[2J', expected: 'no field of this name' },
        ],
      },
    },
  };
  const standIn = await serve(context, {
    'POST /admin/sources': ({ body }) => refusals[(body as { name: string }).name],
  });
  const wrong = await run(['sources', 'create', 'wrong'], { standIn });
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /refused the admin token\.\nSet ADMIN_TOKEN/);
  const bad = await run(['sources', 'create', 'bad'], { standIn });
  assert.equal(bad.code, 1);
  assert.equal(
    bad.stderr,
    'repeater: name: expected a name of 1 to 200 characters, got "".\n' +
      '  color\\x1b[2J: expected no field of this name\n',
  );
});

test('a redirect is not followed: the token stays here', async (context) => {
  const other = await serve(context, {});
  const standIn = await serve(context, {
    'GET /admin/sources': (_request, response) => {
      response.writeHead(302, { location: `${other.url}/admin/sources` }).end();
    },
  });
  const { code } = await run(['sources'], { standIn });
  assert.equal(code, 1);
  assert.equal(other.seen.length, 0);
});
