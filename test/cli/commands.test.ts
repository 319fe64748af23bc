/** The other commands: what they ask the API for and what people and programs see. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { displayWidth } from '../../src/cli/printable.ts';
import { type Route, run, type StandIn, startStandIn } from './stand-in.ts';

process.env['TZ'] = 'UTC';

const webhook = {
  slug: 'webhook',
  name: 'Webhook',
  description: 'Sends each event as a signed POST request.',
  accepts: ['track'],
  limits: {},
  replay: {},
  settingsSchema: {
    type: 'object',
    required: ['url'],
    properties: {
      url: { type: 'string', description: 'Where events are sent.' },
      secret: { type: 'string', writeOnly: true, description: 'Signs the requests.' },
      headers: {
        type: 'object',
        additionalProperties: { type: 'string' },
        description: 'Sent with each request.',
      },
      batch: { type: 'integer', description: 'Events per request.' },
    },
  },
};
const destination = {
  id: 'dst_1',
  type: 'webhook',
  name: 'Orders',
  settings: { url: 'https://example.com/hook', secret: '••••f3a9', headers: { 'x-team': 'a' } },
  enabled: true,
  state: 'active',
  pausedReason: null,
  pausedAt: null,
  policy: { retry: { spanMs: 1000, maxMs: 500 } },
  createdAt: '2026-11-24T08:30:00.000Z',
  updatedAt: '2026-11-24T08:30:00.000Z',
};
const listOf =
  (...data: unknown[]): Route =>
  () => ({ json: { data, next: null } });

async function serve(context: TestContext, routes: Record<string, Route>): Promise<StandIn> {
  const standIn = await startStandIn(routes);
  context.after(() => standIn.close());
  return standIn;
}

function assertFits(lines: readonly string[]): void {
  for (const line of lines) assert.ok(displayWidth(stripVTControlCharacters(line)) <= 80, line);
}

test('sources', async (context) => {
  const source = {
    id: 'src_1',
    name: 'Web \u001b[31mshop',
    enabled: true,
    writeKey: 'k'.repeat(32),
    writeKeys: [],
    createdAt: destination.createdAt,
  };
  const standIn = await serve(context, {
    'GET /admin/sources': listOf(source),
    'POST /admin/sources': () => ({ status: 201, json: source }),
  });
  const list = await run(['sources'], { standIn, columns: 80 });
  assert.match(list.stdout, /src_1 {2}Web \\x1b\[31mshop {2}k{32} {2}2026-11-24 08:30:00/);
  const created = await run(['sources', 'create', 'Web shop'], { standIn });
  assert.match(created.stdout, /^Created src_1 .*\nWrite key {2}k{32}\n$/);
  assert.deepEqual(standIn.bodies('POST /admin/sources'), [{ name: 'Web shop' }]);
});

test('destinations create: settings become what the schema asks for; a generated secret is shown', async (context) => {
  const standIn = await serve(context, {
    'GET /admin/destination-types': listOf(webhook),
    'POST /admin/destinations': ({ body }) => ({
      status: 201,
      json: { ...destination, settings: { ...(body as { settings: object }).settings, secret: 'whsec_new' } },
    }),
  });
  const settings = ['--set', 'url=http://x/?a=b', '--set', 'headers.x-team=5', '--set', 'batch=10'];
  const argv = ['destinations', 'create', '--type', 'webhook', '--name', 'Orders', ...settings];
  const more = [
    '--start-from',
    'beginning',
    '--policy',
    'retry.spanMs=3600000',
    '--policy',
    'onPermanentFailure=block',
  ];
  const { code, stdout } = await run([...argv, ...more], { standIn });
  assert.equal(code, 0);
  assert.deepEqual(standIn.bodies('POST /admin/destinations'), [
    {
      type: 'webhook',
      name: 'Orders',
      settings: { url: 'http://x/?a=b', headers: { 'x-team': '5' }, batch: 10 },
      enabled: true,
      startFrom: 'beginning',
      policy: { retry: { spanMs: 3_600_000 }, onPermanentFailure: 'block' },
    },
  ]);
  assert.match(stdout, /^Created dst_1\.\n/);
  assert.match(stdout, /secret +whsec_new\n/);
  assert.match(stdout, /shown only this once/);
});

test('destinations create: settings from a file or stdin, --set on top', async (context) => {
  const folder = await mkdtemp(join(tmpdir(), 'repeater-cli-'));
  context.after(() => rm(folder, { recursive: true }));
  const file = join(folder, 'settings.json');
  await writeFile(file, '{"url":"http://file","batch":2}');
  const standIn = await serve(context, {
    'GET /admin/destination-types': listOf(webhook),
    'POST /admin/destinations': () => ({ status: 201, json: destination }),
  });
  const argv = ['destinations', 'create', '--type', 'webhook', '--name', 'Orders', '--json'];
  await run([...argv, '--json-settings', file, '--set', 'batch=3'], { standIn });
  await run([...argv, '--json-settings', '-'], { standIn, stdin: '{"url":"http://stdin"}' });
  const settings = standIn
    .bodies('POST /admin/destinations')
    .map((body) => (body as { settings: unknown }).settings);
  assert.deepEqual(settings, [{ url: 'http://file', batch: 3 }, { url: 'http://stdin' }]);
  const broken = await run([...argv, '--json-settings', '-'], { standIn, stdin: '{"url"' });
  assert.equal(broken.code, 2);
  assert.match(broken.stderr, /- is not JSON/);
  const missing = await run([...argv, '--json-settings', '/nonexistent'], { standIn });
  assert.equal(missing.code, 1);
});

test('destinations update keeps what is not named, inside objects too', async (context) => {
  const standIn = await serve(context, {
    'GET /admin/destination-types': listOf(webhook),
    'GET /admin/destinations/dst_1': () => ({ json: destination }),
    'PATCH /admin/destinations/dst_1': () => ({ json: destination }),
  });
  const argv = ['destinations', 'update', 'dst_1', '--set', 'headers.x-new=b', '--unset', 'batch'];
  const { stdout } = await run([...argv, '--policy', 'retry.spanMs=5'], { standIn, columns: 80 });
  assert.deepEqual(standIn.bodies('PATCH /admin/destinations/dst_1'), [
    {
      settings: { headers: { 'x-team': 'a', 'x-new': 'b' }, batch: null },
      policy: { retry: { spanMs: 5, maxMs: 500 } },
    },
  ]);
  assert.doesNotMatch(stdout, /shown only/);
  const nothing = await run(['destinations', 'update', 'dst_1'], { standIn });
  assert.equal(nothing.code, 2);
  await run(['destinations', 'disable', 'dst_1'], { standIn });
  assert.deepEqual(standIn.bodies('PATCH /admin/destinations/dst_1')[1], { enabled: false });
});

test('destinations list, show, status, types fit into 80 columns', async (context) => {
  const feed = {
    feedId: 1,
    kind: 'live',
    replayId: null,
    state: 'running',
    head: 1_234_567,
    cursor: 1_200_000,
    lagEvents: 34_567,
    lagSeconds: 75.3,
    parkedUsers: 12,
    deadLetters: 3,
    delivered: 1_199_900,
    dead: 3,
    filtered: 0,
  };
  const paused = {
    ...destination,
    state: 'paused',
    pausedReason: 'The destination answered 401 Unauthorized.',
  };
  const standIn = await serve(context, {
    'GET /admin/destinations': listOf(destination, paused),
    'GET /admin/destinations/dst_1': () => ({ json: destination }),
    'DELETE /admin/destinations/dst_1': (_request, response) => void response.writeHead(204).end(),
    'GET /admin/destinations/dst_1/status': () => ({
      json: {
        destinationId: 'dst_1',
        state: 'active',
        pausedReason: null,
        feeds: [feed, { ...feed, replayId: 'rpl_12', kind: 'replay' }],
      },
    }),
    'GET /admin/destination-types': listOf(webhook),
  });
  const list = await run(['destinations'], { standIn, columns: 80 });
  assertFits(list.lines);
  const status = await run(['destinations', 'status', 'dst_1'], { standIn, columns: 80 });
  assertFits(status.lines);
  assert.match(
    status.stdout,
    /live {4}running {2}1200000 {2}1234567 {2}34,567 {2}1 min 15 s {6}12 {5}3 {2}1,199,900/,
  );
  const types = await run(['destinations', 'types'], { standIn, columns: 80 });
  assertFits(types.lines);
  assert.match(types.stdout, /--set url=… \(required\) {2}Where events are sent\./);
  const show = await run(['destinations', 'show', 'dst_1'], { standIn });
  assert.match(show.stdout, /secret {8}••••f3a9/);
  assert.equal((await run(['destinations', 'delete', 'dst_1'], { standIn })).stdout, 'Deleted dst_1.\n');
});

const letter = {
  position: 42,
  destinationId: 'dst_1',
  replayId: 'rpl_3',
  userKey: 'u:u1',
  userId: 'u1',
  anonymousId: null,
  messageId: 'm1',
  type: 'track',
  event: 'Order Completed',
  status: 400,
  error: 'The destination answered 400: bad\nrequest',
  response: null,
  attempts: 1,
  createdAt: destination.createdAt,
};

test('dead letters: list, and replay only them', async (context) => {
  const standIn = await serve(context, {
    'GET /admin/dead-letters': listOf(letter),
    'POST /admin/replays/preview': () => ({ json: { total: 1, users: 1, warnings: [] } }),
    'POST /admin/replays': () => ({ status: 201, json: { id: 'rpl_4', destinationId: 'dst_1', total: 1 } }),
  });
  const list = await run(['dead-letters', 'list', '--destination', 'dst_1'], { standIn, columns: 80 });
  assertFits(list.lines);
  assert.match(list.stdout, /42 {2}rpl_3 {2}u1/);
  assert.equal(standIn.seen[0]?.line, 'GET /admin/dead-letters?destinationId=dst_1&limit=50');
  const replay = await run(['dead-letters', 'replay', '--destination', 'dst_1', '--user', 'u1', '--detach'], {
    standIn,
  });
  assert.match(replay.stdout, /Watch it: repeater replays watch rpl_4/);
  assert.deepEqual(standIn.bodies('POST /admin/replays'), [
    {
      destinationId: 'dst_1',
      selection: { userIds: ['u1'], deadLettersOnly: true },
      order: 'alongside',
      ratePerSecond: null,
    },
  ]);
});

test('parked users', async (context) => {
  const user = {
    ...letter,
    state: 'retry',
    parkedAt: destination.createdAt,
    nextAttemptAt: '2026-11-24T08:31:00.000Z',
    lastError: 'The endpoint answered 503 Service Unavailable.',
    lastStatus: 503,
  };
  const standIn = await serve(context, {
    'GET /admin/parked-users': listOf(user, { ...user, state: 'blocked', userId: null, anonymousId: 'a-1' }),
  });
  const nextDay = () => new Date('2026-11-25T08:00:00Z');
  const { lines, stdout } = await run(['parked-users'], { standIn, columns: 80, now: nextDay });
  assertFits(lines);
  assert.match(stdout, /u1 .*2026-11-24 08:31 /);
  assert.match(stdout, /a-1 .*blocked/);
  assert.match(stdout, / 503 Service Unavailable\n/);
  const now = () => new Date('2026-11-24T08:00:00Z');
  const today = await run(['parked-users'], { standIn, columns: 80, now });
  assert.match(today.stdout, /u1 .* 08:31:00 /);
});

test('sql: a table with numbers to the right and nulls visible; JSON and CSV', async (context) => {
  const result = {
    columns: ['event', 'events', 'total', 'total'],
    rows: [
      ['Order Completed', 1240, '99.50', { a: 1 }],
      [null, 7, null, null],
    ],
    rowCount: 2,
    truncated: false,
  };
  const standIn = await serve(context, { 'POST /admin/sql': () => ({ json: result }) });
  const table = await run(['sql', 'select 1'], { standIn });
  assert.equal(
    table.stdout,
    [
      'event            events  total  total',
      '───────────────  ──────  ─────  ───────',
      'Order Completed    1240  99.50  {"a":1}',
      'NULL                  7   NULL  NULL',
      '(2 rows)',
      '',
    ].join('\n'),
  );
  const json = await run(['sql', '--json'], { standIn, stdin: 'select 2\n' });
  assert.deepEqual(JSON.parse(json.stdout), [
    { event: 'Order Completed', events: 1240, total: '99.50', total_2: { a: 1 } },
    { event: null, events: 7, total: null, total_2: null },
  ]);
  const csv = await run(['sql', 'select 3', '--csv', '--limit', '5'], { standIn });
  assert.equal(csv.stdout, 'event,events,total,total\nOrder Completed,1240,99.50,"{""a"":1}"\n,7,,\n');
  assert.deepEqual(standIn.bodies('POST /admin/sql'), [
    { query: 'select 1', limit: 1000 },
    { query: 'select 2\n', limit: 1000 },
    { query: 'select 3', limit: 5 },
  ]);
});

test('sql: many wide columns become records on a terminal; a cut answer says so', async (context) => {
  const columns = Array.from({ length: 15 }, (_, index) => `column_${index}`);
  const rows = [columns.map((name) => `${name} ${'x'.repeat(200)}`)];
  const standIn = await serve(context, {
    'POST /admin/sql': () => ({ json: { columns, rows, rowCount: 1, truncated: true } }),
  });
  const { lines, stderr } = await run(['sql', 'select *'], { standIn, columns: 80 });
  assertFits(lines);
  assert.equal(lines.length, 17);
  assert.match(stderr, /Only the first 1 row; --limit/);
});

test('sql: an error points at its place', async (context) => {
  const failed = {
    code: 'query_failed',
    message: 'column "evnt" does not exist',
    details: { sqlstate: '42703', position: 28, hint: 'Perhaps "event".' },
  };
  const standIn = await serve(context, { 'POST /admin/sql': () => ({ status: 400, json: failed }) });
  const { code, stderr } = await run(['sql', 'select id -- größe 👍\n, id, evnt from warehouse.events'], {
    standIn,
  });
  assert.equal(code, 1);
  assert.equal(
    stderr,
    'repeater: column "evnt" does not exist\n  , id, evnt from warehouse.events\n        ^\n  hint: Perhaps "event".\n  sqlstate: 42703\n',
  );
});

test('a word that is no command is named, with what there is', async () => {
  for (const argv of [['destinations', 'lst'], ['replays', 'x', '--json'], ['sourcez']]) {
    const { code, stderr } = await run(argv);
    assert.equal(code, 2);
    assert.match(stderr, /^repeater: unknown command '(lst|x|sourcez)'/, argv.join(' '));
    assert.match(stderr, /status, types|pause, resume|Did you mean sources/);
  }
});

test('on a terminal a long message is broken at spaces', async () => {
  const argv = ['replays', 'create', '--to', 'dst_1', '--from', 'once upon a time'];
  const { stderr } = await run(argv, { columns: 80 });
  assertFits(stderr.split('\n'));
  assert.equal(stderr.replaceAll('\n', ' ').trim(), (await run(argv)).stderr.trim());
});

test('every command has a help text that says what it is for, in 80 columns', async () => {
  const groups = [
    '',
    'serve',
    'migrate',
    'sources',
    'destinations',
    'replays',
    'events',
    'sql',
    'tail',
    'dead-letters',
    'parked-users',
  ];
  let commands = 0;
  const visit = async (path: string[]) => {
    commands++;
    const { code, stdout } = await run([...path, '--help'], { columns: 80 });
    assert.equal(code, 0, path.join(' '));
    const lines = stdout.split('\n');
    for (const line of lines) {
      assert.ok(displayWidth(line) <= 80, `${path.join(' ')}: ${line}`);
    }
    assert.match(stdout, /^Usage: repeater/);
    const listed = stdout.split('\nCommands:\n')[1]?.split('\n\n')[0] ?? '';
    if (path.length !== 1) return;
    for (const [, name = ''] of listed.matchAll(/^ {2}([a-z-]+)/gm))
      if (name !== 'help') await visit([...path, name]);
  };
  for (const group of groups) await visit(group === '' ? [] : [group]);
  assert.ok(commands > 25, `${commands} help texts were looked at`);
});
