/** `repeater tail`: starts where the log ends, survives a restart, and shows hostile content as text. */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { test, type TestContext } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { displayWidth } from '../../src/cli/printable.ts';
import { KeptStream, type Route, run, startStandIn } from './stand-in.ts';

process.env['TZ'] = 'UTC';

function storedEvent(position: number, more: object = {}) {
  return {
    position,
    sourceId: 'src_1',
    messageId: `m${position}`,
    type: 'track',
    name: 'Order Completed',
    userId: 'u1',
    anonymousId: null,
    receivedAt: '2026-11-24T09:15:02.123456Z',
    timestamp: '2026-11-24T09:15:02.000Z',
    event: { type: 'track', properties: { total: 42.5 } },
    ...more,
  };
}

function send(response: ServerResponse, ...positions: number[]): void {
  if (!response.headersSent) response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write(positions.map((id) => `id: ${id}\ndata: ${JSON.stringify(storedEvent(id))}\n\n`).join(''));
}

/** Runs `tail` until `lines` lines came, then closes stdout as `| head` would. */
async function tail(
  context: TestContext,
  stream: Route,
  options: { argv?: string[]; columns?: number; lines: number; newest?: number },
) {
  const { argv = [], columns, lines, newest = 10 } = options;
  const standIn = await startStandIn({
    'GET /admin/events': ({ query }) => {
      const before = Number(query.get('before') ?? newest + 1);
      const count = Math.min(Number(query.get('limit')), before - 1);
      return {
        json: {
          data: Array.from({ length: count }, (_, index) => storedEvent(before - 1 - index)),
          next: null,
        },
      };
    },
    'GET /admin/events/stream': stream,
  });
  context.after(() => standIn.close());
  const stdout = new KeptStream(columns);
  stdout.on('kept', () => {
    if (stdout.lines.length >= lines) stdout.destroy(Object.assign(new Error('closed'), { code: 'EPIPE' }));
  });
  const result = await run(['tail', ...argv], { standIn, stdout });
  return { ...result, seen: standIn.seen };
}

test('starts after the newest event, so nothing accepted from now on is missed', async (context) => {
  const { code, lines, seen } = await tail(context, (_request, response) => send(response, 11), { lines: 1 });
  assert.equal(code, 0);
  assert.deepEqual(lines, ['09:15:02  track     Order Completed  u1  {"total":42.5}']);
  const stream = seen.find(({ path }) => path === '/admin/events/stream');
  assert.equal(stream?.headers['last-event-id'], '10');
  assert.equal(stream?.headers.accept, 'text/event-stream');
});

test('--last shows earlier events first; filters are passed on', async (context) => {
  const argv = [
    '--last',
    '2',
    '--type',
    'track',
    '--event',
    'A',
    'B',
    '--user',
    'u1',
    '--source',
    'Web',
    '--json',
  ];
  const { lines, seen } = await tail(context, (_request, response) => send(response, 11), { argv, lines: 3 });
  assert.deepEqual(
    lines.map((line) => (JSON.parse(line) as { position: number }).position),
    [9, 10, 11],
  );
  const filters = seen.slice(1).map(({ line }) => line);
  assert.deepEqual(filters, [
    'GET /admin/events?types=track&events=A&events=B&userIds=u1&sources=Web&before=11&limit=2',
    'GET /admin/events/stream?type=track&event=A&event=B&userId=u1&source=Web',
  ]);
});

test('a restart of the server loses and repeats nothing', async (context) => {
  let connection = 0;
  const { lines, stderr, seen } = await tail(
    context,
    (_request, response) => {
      if (++connection > 1) return send(response, 13, 14);
      send(response, 11, 12);
      setTimeout(() => response.destroy(), 20);
    },
    { argv: ['--json'], lines: 4 },
  );
  assert.deepEqual(
    lines.map((line) => (JSON.parse(line) as { position: number }).position),
    [11, 12, 13, 14],
  );
  assert.equal(seen.at(-1)?.headers['last-event-id'], '12');
  assert.match(stderr, /The connection was lost; trying again …\nConnected again; nothing was missed\.\n/);
});

test('on a terminal lines are cut and coloured, and content cannot drive it', async (context) => {
  const hostile = storedEvent(11, {
    name: 'a\u001b[2J\n',
    event: { properties: { text: `\u202e${'日本'.repeat(60)}` } },
  });
  const { lines } = await tail(
    context,
    (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write(`id: 11\ndata: ${JSON.stringify(hostile)}\n\n`);
    },
    { columns: 80, lines: 1 },
  );
  const bare = stripVTControlCharacters(lines[0] ?? '');
  assert.match(bare, /^09:15:02 {2}track {5}a\\x1b\[2J\\n {2}u1 {2}\{"text":"\\u202e日本/);
  assert.ok(displayWidth(bare) <= 80);
});

test('events left out are reported', async (context) => {
  const { stderr } = await tail(
    context,
    (_request, response) => {
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      response.write('event: dropped\ndata: {"count":12}\n\n');
      send(response, 30);
    },
    { lines: 1 },
  );
  assert.match(stderr, /12 events left out/);
});
