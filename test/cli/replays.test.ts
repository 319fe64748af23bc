/** Replays from the command line: what is asked for, the preview, and the progress bar to its end. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import type { Preview, Replay } from '../../src/cli/answers.ts';
import { displayWidth } from '../../src/cli/printable.ts';
import { type Answer, type Route, run, type StandIn, startStandIn } from './stand-in.ts';

process.env['TZ'] = 'Europe/Berlin';
const now = () => new Date('2026-11-24T08:30:00Z');

const replay: Replay = {
  id: 'rpl_3',
  destinationId: 'dst_2',
  selection: {},
  order: 'alongside',
  state: 'running',
  total: 1240,
  done: 0,
  delivered: 0,
  dead: 0,
  filtered: 0,
  ratePerSecond: null,
  etaSeconds: null,
  createdAt: '2026-11-24T08:30:00.000Z',
  finishedAt: null,
};

const preview: Preview = {
  total: 1240,
  users: 2,
  from: '2026-11-23T10:00:00.000000Z',
  to: '2026-11-23T12:00:00.000000Z',
  firstPosition: 17,
  lastPosition: 9001,
  byEvent: [
    { type: 'track', event: 'Order Completed', count: 1200 },
    { type: 'page', event: null, count: 40 },
  ],
  samples: [
    {
      position: 17,
      sourceId: 'src_1',
      messageId: 'm1',
      type: 'track',
      name: 'Order Completed',
      userId: 'u1',
      anonymousId: null,
      receivedAt: '2026-11-23T10:00:00.000000Z',
      timestamp: '2026-11-23T10:00:00.000Z',
      event: { type: 'track', userId: 'u1', properties: { note: `\u001b[2J${'long '.repeat(40)}` } },
    },
  ],
  warnings: ['Webhook: what it already has counts twice.'],
  estimatedSeconds: 62,
};

const finished = { finishedAt: '2026-11-24T08:30:04.200Z', done: 1240, delivered: 1237, dead: 3 } as const;

/** States that the replay goes through, one per look; the last stays. */
function passing(...states: Partial<Replay>[]): Route {
  let look = 0;
  return () => ({ json: { ...replay, ...states[Math.min(look++, states.length - 1)] } });
}

async function serve(context: TestContext, routes: Record<string, Route>): Promise<StandIn> {
  const standIn = await startStandIn({
    'POST /admin/replays/preview': () => ({ json: preview }),
    'POST /admin/replays': () => ({ status: 201, json: replay }),
    'GET /admin/destinations/dst_2': () => ({ json: { id: 'dst_2', state: 'active', pausedReason: null } }),
    ...routes,
  });
  context.after(() => standIn.close());
  return standIn;
}

const steps = [{ done: 300 }, { done: 1239, etaSeconds: 1 }, { ...finished, state: 'completed' }] as const;

test('--preview prints the exact count and sends nothing', async (context) => {
  const standIn = await serve(context, {});
  const argv = ['replays', 'create', '--to', 'dst_2', '--event', 'Order Completed', '--user', 'u1', 'u2'];
  const times = ['--from', 'yesterday', '--until', 'today', '--rate', '20', '--preview'];
  const { code, lines } = await run([...argv, ...times], { standIn, now, columns: 80 });
  assert.equal(code, 0);
  assert.deepEqual(
    standIn.seen.map(({ line }) => line),
    ['POST /admin/replays/preview'],
  );
  assert.deepEqual(standIn.bodies('POST /admin/replays/preview'), [
    {
      destinationId: 'dst_2',
      selection: {
        from: '2026-11-22T23:00:00.000Z',
        to: '2026-11-23T23:00:00.000Z',
        events: ['Order Completed'],
        userIds: ['u1', 'u2'],
      },
      order: 'alongside',
      ratePerSecond: 20,
    },
  ]);
  const output = lines.join('\n');
  assert.match(output, /1,240 events of 2 users.* would be sent to dst_2\. Nothing was sent\./);
  assert.match(output, /Chosen {5}2026-11-23 00:00:00 until 2026-11-24 00:00:00/);
  assert.match(output, /Accepted {3}2026-11-23 11:00:00 to 2026-11-23 13:00:00/);
  assert.match(output, /1,200 {2}track {2}Order Completed/);
  assert.match(output, /takes about 1 min 2 s/);
  assert.match(output, /counts twice/);
  assert.ok(!output.includes('\u001b[2J'));
  for (const line of lines) assert.ok(displayWidth(stripVTControlCharacters(line)) <= 80, line);
});

test('without --preview: the count, a bar that reaches 100 %, and what became of it', async (context) => {
  const standIn = await serve(context, { 'GET /admin/replays/rpl_3': passing(...steps) });
  const { code, stdout, stderr } = await run(
    ['replays', 'create', '--to', 'dst_2', '--dead-letters', '--before-live'],
    {
      standIn,
    },
  );
  assert.equal(code, 0, stderr);
  assert.deepEqual(standIn.bodies('POST /admin/replays'), [
    {
      destinationId: 'dst_2',
      selection: { deadLettersOnly: true },
      order: 'before-live',
      ratePerSecond: null,
    },
  ]);
  assert.match(
    stdout,
    /^Note: Webhook: what it already has counts twice\.\nReplay rpl_3: 1,240 events of 2 users to dst_2\.\n/,
  );
  assert.match(stdout, /\n█{20,} 100 % {2}1,240\/1,240 {2}dead 3\n/);
  assert.match(stdout, /Replay rpl_3 completed: 1,237 of 1,240 events delivered in 4\.2 s \(295\/s\)\.\n/);
  assert.match(stdout, /3 events were given up: repeater dead-letters list --replay rpl_3\n$/);
  // Not a terminal: no cursor movement, and not a line per look.
  assert.ok(!stdout.includes('\r') && !stdout.includes('\u001b'));
  assert.equal(stdout.match(/ % {2}/g)?.length, 2);
});

test('on a terminal the bar is redrawn in place and fits', async (context) => {
  const standIn = await serve(context, { 'GET /admin/replays/rpl_3': passing(...steps) });
  const { stdout } = await run(['replays', 'create', '--to', 'dst_2'], { standIn, columns: 80 });
  const drawn = stdout
    .split('\r\u001b[2K')
    .slice(1)
    .map((part) => part.split('\n')[0] ?? '');
  assert.ok(drawn.length >= 4);
  for (const line of drawn) assert.ok(displayWidth(line) < 80, line);
  assert.match(drawn[0] ?? '', /^░+ {3}0 % {2}0\/1,240$/);
  assert.ok(
    drawn.some((line) => / 99 % {2}1,239\/1,240 .*ETA 1 s$/.test(line)),
    drawn.join('\n'),
  );
  assert.match(drawn.at(-1) ?? '', /^█+ 100 %/);
});

test('the server restarts meanwhile: waits and goes on', async (context) => {
  const busy: Answer = { status: 503, json: { code: 'storage_unavailable', message: 'busy' } };
  const later = passing(...steps);
  let look = 0;
  const standIn = await serve(context, {
    'GET /admin/replays/rpl_3': (request, response) => {
      look++;
      if (look === 1) return busy;
      return look === 2 ? void response.destroy() : later(request, response);
    },
  });
  const { code, stdout } = await run(['replays', 'watch', 'rpl_3'], {
    standIn: await withFirst(standIn, context),
  });
  assert.equal(code, 0);
  assert.match(
    stdout,
    /does not answer; the replay goes on when it is back\. Waiting\.\nThe server is back\.\n/,
  );
});

/** `watch` looks once before it waits: that first look must succeed. */
async function withFirst(standIn: StandIn, context: TestContext): Promise<StandIn> {
  let isFirst = true;
  const front = await startStandIn({
    'GET /admin/replays/rpl_3': async (_request, response) => {
      if (isFirst) {
        isFirst = false;
        return { json: replay };
      }
      try {
        const answer = await fetch(`${standIn.url}/admin/replays/rpl_3`);
        return { status: answer.status, json: await answer.json() };
      } catch {
        response.destroy();
        return undefined;
      }
    },
    'GET /admin/destinations/dst_2': () => ({ json: { id: 'dst_2', state: 'active', pausedReason: null } }),
  });
  context.after(() => front.close());
  return front;
}

test('a cancelled replay ends with exit code 1', async (context) => {
  const standIn = await serve(context, {
    'GET /admin/replays/rpl_3': passing({ done: 10 }, { done: 20, state: 'cancelled' }),
  });
  const { code, stdout } = await run(['replays', 'watch', 'rpl_3'], { standIn });
  assert.equal(code, 1);
  assert.match(stdout, /1 % {2}20\/1,240 {2}cancelled\n/);
});

test('a replay that stands still says why', async (context) => {
  let clock = 0;
  let looks = 0;
  const standIn = await serve(context, {
    'GET /admin/replays/rpl_3': () => ({
      json: { ...replay, ...(++looks > 4 ? { ...finished, state: 'completed' } : {}) },
    }),
    'GET /admin/destinations/dst_2': () => ({
      json: { id: 'dst_2', state: 'paused', pausedReason: 'answered 401' },
    }),
  });
  const ticking = () => new Date((clock += 2000));
  const { stdout } = await run(['replays', 'watch', 'rpl_3'], { standIn, now: ticking });
  assert.match(
    stdout,
    /Destination dst_2 is paused \(answered 401\)\. To go on: repeater destinations enable dst_2\n/,
  );
});

test('--json prints only the replay as it ended, --detach the replay as it began', async (context) => {
  const standIn = await serve(context, { 'GET /admin/replays/rpl_3': passing(...steps) });
  const waited = await run(['replays', 'create', '--to', 'dst_2', '--json'], { standIn });
  assert.deepEqual(JSON.parse(waited.stdout), { ...replay, ...finished, state: 'completed' });
  const detached = await run(['replays', 'create', '--to', 'dst_2', '--detach', '--json'], { standIn });
  assert.deepEqual(JSON.parse(detached.stdout), replay);
});

test('nothing matches: nothing is started', async (context) => {
  const standIn = await serve(context, {
    'POST /admin/replays/preview': () => ({ json: { ...preview, total: 0, warnings: [] } }),
  });
  const { code, stdout } = await run(['replays', 'create', '--to', 'dst_2'], { standIn });
  assert.equal(code, 0);
  assert.match(stdout, /Nothing to replay/);
  assert.equal(standIn.bodies('POST /admin/replays').length, 0);
});

test('list, show, pause, rate', async (context) => {
  const standIn = await serve(context, {
    'GET /admin/replays': () => ({
      json: { data: [{ ...replay, ...finished, state: 'completed' }], next: null },
    }),
    'GET /admin/replays/rpl_3': () => ({ json: { ...replay, selection: { userIds: ['u1', 'u2'] } } }),
    'POST /admin/replays/rpl_3/pause': () => ({ json: { ...replay, done: 12, state: 'paused' } }),
    'PATCH /admin/replays/rpl_3': ({ body }) => ({ json: { ...replay, ...(body as object) } }),
  });
  const list = await run(['replays', 'list', '--to', 'dst_2'], { standIn, columns: 80 });
  assert.match(
    list.stdout,
    /rpl_3 {2}dst_2 {2}completed {2}1,240 {3}1,240 {2}100 % {5}3 {2}2026-11-24 09:30:00/,
  );
  assert.equal(standIn.seen[0]?.query.get('destinationId'), 'dst_2');
  const show = await run(['replays', 'show', 'rpl_3'], { standIn });
  assert.match(show.stdout, /done {7}0 of 1,240 \(0 %\)/);
  assert.match(show.stdout, /userIds {4}u1, u2/);
  const pause = await run(['replays', 'pause', 'rpl_3'], { standIn });
  assert.equal(pause.stdout, 'Replay rpl_3 is paused at 12 of 1,240.\n');
  const rate = await run(['replays', 'rate', 'rpl_3', '50'], { standIn });
  assert.equal(rate.stdout, 'Replay rpl_3: at most 50/s.\n');
  await run(['replays', 'rate', 'rpl_3', 'none'], { standIn });
  assert.deepEqual(standIn.bodies('PATCH /admin/replays/rpl_3'), [
    { ratePerSecond: 50 },
    { ratePerSecond: null },
  ]);
});

test('wrong usage ends with exit code 2 and asks the server nothing', async (context) => {
  const standIn = await serve(context, {});
  const wrong: [string[], RegExp][] = [
    [['replays', 'create'], /required option '--to <destination>' not specified/],
    [
      ['replays', 'create', '--to', 'dst_2', '--from', 'yesterdayy'],
      /--from: "yesterdayy" is no time\. Expected 2026-01-31,/,
    ],
    [
      ['replays', 'create', '--to', 'dst_2', '--from', 'today', '--until', 'yesterday'],
      /must be after --from/,
    ],
    [['replays', 'create', '--to', 'dst_2', '--rate', '0'], /Expected events per second/],
    [['replays', 'create', '--to', 'dst_2', '--type', 'trakc'], /Allowed choices are identify/],
    [['replays', 'crate'], /too many arguments|unknown command/],
    [['replayz'], /unknown command 'replayz'[^]*Did you mean replays/],
  ];
  for (const [argv, message] of wrong) {
    const { code, stderr, stdout } = await run(argv, { standIn, now });
    assert.equal(code, 2, argv.join(' '));
    assert.match(stderr, message);
    assert.equal(stdout, '');
  }
  assert.equal(standIn.seen.length, 0);
});
