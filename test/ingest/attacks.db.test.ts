/**
 * What somebody may throw at the door to hurt it, over real sockets: each is refused by name or stored as data,
 * costs no neighbour its event, no memory worth the name, and nobody else their answer.
 */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { type RepeaterProcess, startRepeater, writeKey } from '../support/process.ts';
import { exchange, openSocket } from '../support/raw-http.ts';

let database: TestDatabase;
let sql: Sql;
let repeater: RepeaterProcess;

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin');
  repeater = await startRepeater({ DATABASE_URL: database.url });
});
after(async () => {
  await repeater.kill('SIGTERM');
  await sql.end();
  await database.drop();
});

type Json = Record<string, unknown>;

let count = 0;
const nextId = () => `a-${++count}`;
const track = (messageId: string, more: Json = {}): Json => ({
  type: 'track',
  event: 'Tested',
  userId: 'u',
  messageId,
  ...more,
});

async function post(body: string | Buffer | Json, { path = '/v1/batch', headers = {} } = {}) {
  const bytes =
    typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify({ writeKey, ...body });
  const response = await fetch(`${repeater.address}${path}`, {
    method: 'POST',
    headers,
    body: bytes as string,
  });
  return { status: response.status, body: (await response.json()) as Json };
}

async function isStored(messageId: string, sourceId = 1): Promise<boolean> {
  const [row] = await sql`
    select from warehouse.events where message_id = ${messageId} and source_id = ${sourceId}`;
  return row !== undefined;
}

/** A good event is taken and stored, by the same process as before. */
async function isAlive(): Promise<void> {
  const messageId = nextId();
  assert.equal((await post({ batch: [track(messageId)] })).status, 200);
  assert.ok(await isStored(messageId));
  assert.equal(repeater.child.exitCode, null);
}

async function residentBytes(): Promise<number> {
  const status = await readFile(`/proc/${repeater.child.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1_024;
}

test('A3: an event nested too deep is refused alone; its neighbours are stored, and it is kept', async () => {
  const [before, behind, deep] = [nextId(), nextId(), nextId()];
  const nested = (levels: number, id: string) =>
    JSON.stringify(track(id, { properties: { a: 'deep' } })).replace(
      '"deep"',
      `${'['.repeat(levels)}${']'.repeat(levels)}`,
    );
  const fine = nextId();
  const batch = [
    JSON.stringify(track(before)),
    nested(20_000, deep),
    nested(200, fine),
    JSON.stringify(track(behind)),
  ];
  const mixed = await post(`{"writeKey":"${writeKey}","batch":[${batch.join(',')}]}`);
  assert.equal(mixed.status, 200);
  assert.deepEqual(
    (mixed.body['rejected'] as Json[]).map(({ index, code }) => [index, code]),
    [[1, 'too_deep']],
  );
  for (const id of [before, behind, fine]) assert.ok(await isStored(id), id);
  assert.equal(await isStored(deep), false);
  const [kept] = await sql<{ count: number }[]>`
    select count(*) as count from warehouse.rejected_events where code = 'too_deep'`;
  assert.equal(kept?.count, 1);
  for (const levels of [20_000, 1_000_000]) {
    const alone = await post(`{"writeKey":"${writeKey}","batch":[${nested(levels, nextId())}]}`);
    assert.deepEqual([alone.status, alone.body['code']], [400, 'too_deep']);
    const single = await post(nested(levels, nextId()), { path: `/v1/track?writeKey=${writeKey}` });
    assert.deepEqual([single.status, single.body['code']], [400, 'too_deep']);
  }
  await isAlive();
});

test('A3, A4: too many keys, too long keys, texts and events are refused by name, alone', async () => {
  const wide = Object.fromEntries(Array.from({ length: 12_000 }, (_, key) => [`k${key}`, key]));
  const cases: [properties: Json, reason: RegExp][] = [
    [wide, /at most 11000 keys/],
    [{ ['k'.repeat(30_000)]: 1 }, /a name of at most 8192 characters/],
    [{ text: 'x'.repeat(38_000) }, /properties\.text: expected to be a text of at most 36864 characters/],
    [{ a: 'x'.repeat(30_000), b: 'x'.repeat(30_000) }, /at most 40960 bytes/],
  ];
  for (const [properties, reason] of cases) {
    const [before, bad, behind] = [nextId(), nextId(), nextId()];
    const { status, body } = await post({
      batch: [track(before), track(bad, { properties }), track(behind)],
    });
    assert.equal(status, 200);
    const [rejected, ...others] = body['rejected'] as Json[];
    assert.equal(others.length, 0);
    assert.deepEqual([rejected?.['index'], rejected?.['code']], [1, 'event_too_large']);
    assert.match(String(rejected?.['reason']), reason);
    assert.deepEqual(
      [await isStored(before), await isStored(bad), await isStored(behind)],
      [true, false, true],
    );
    const single = await post({ ...track(nextId()), properties }, { path: '/v1/track' });
    assert.deepEqual([single.status, single.body['code']], [400, 'event_too_large']);
    assert.match(String(single.body['message']), reason);
  }
});

test('A4: a batch may have 2,500 events and 512,000 bytes, and is refused by name above the limits', async () => {
  const long = Array.from({ length: 2_500 }, () => track(nextId()));
  assert.equal((await post({ batch: long })).status, 200);
  const tooLong = await post({ batch: [...long, track(nextId())] });
  assert.deepEqual([tooLong.status, tooLong.body['code']], [400, 'batch_too_long']);
  const heavy = Array.from({ length: 20 }, () =>
    track(nextId(), { properties: { text: 'x'.repeat(25_500) } }),
  );
  assert.ok(JSON.stringify({ batch: heavy }).length > 511_000);
  assert.equal((await post({ batch: heavy })).status, 200);
  const tooHeavy = await post({
    batch: Array.from({ length: 10 }, () => track(nextId(), { text: 'x'.repeat(600_000) })),
  });
  assert.deepEqual([tooHeavy.status, tooHeavy.body['code']], [400, 'body_too_large']);
});

/** 50 MB in chunks, without a length. */
function endless(): ReadableStream<Uint8Array> {
  let left = 800;
  return new ReadableStream({
    pull(controller) {
      if (left-- > 0) controller.enqueue(Buffer.alloc(62_500, 'x'));
      else controller.close();
    },
  });
}

test('A4: fifty bombs and endless bodies at once are refused and cost little memory', async (context) => {
  const bomb = gzipSync(Buffer.alloc(200_000_000), { level: 9 });
  await Promise.all(Array.from({ length: 10 }, () => isAlive()));
  const idle = await residentBytes();
  let highest = idle;
  const watch = setInterval(() => void residentBytes().then((now) => (highest = Math.max(highest, now))), 20);
  // Also when it fails: a process with a timer never ends.
  context.after(() => clearInterval(watch));
  const bombs = Array.from({ length: 25 }, () => post(bomb, { headers: { 'content-encoding': 'gzip' } }));
  const floods = Array.from({ length: 25 }, async () => {
    const response = await fetch(`${repeater.address}/v1/batch`, {
      method: 'POST',
      duplex: 'half',
      body: endless(),
    });
    return { status: response.status, body: (await response.json()) as Json };
  });
  for (const { status, body } of await Promise.all([...bombs, ...floods]))
    assert.deepEqual([status, body['code']], [400, 'body_too_large']);
  await isAlive();
  const grown = (highest - idle) / 2 ** 20;
  context.diagnostic(`${Math.round(grown)} MB more`);
  assert.ok(grown < 120, `${Math.round(grown)} MB more`);
});

test('A4: gzip in gzip, broken gzip, other encodings and bad UTF-8 are refused', async () => {
  const good = Buffer.from(JSON.stringify({ writeKey, batch: [track(nextId())] }));
  const cases: [bytes: Buffer, encoding: string][] = [
    [gzipSync(gzipSync(good)), 'gzip'],
    [gzipSync(good).subarray(0, 40), 'gzip'],
    [good, 'gzip'],
    [good, 'br'],
    [good, 'deflate'],
    [good, 'gzip, gzip'],
    [Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), 'identity'],
  ];
  for (const [bytes, encoding] of cases) {
    const { status, body } = await post(bytes, { headers: { 'content-encoding': encoding } });
    assert.deepEqual([status, body['code']], [400, 'invalid_encoding'], encoding);
  }
  await isAlive();
});

test('A5: __proto__ and constructor.prototype are data, and nobody else ever sees them', async () => {
  const evil = '{"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}';
  const bodies = [
    `{"writeKey":"${writeKey}","batch":[{"type":"track","event":"e","userId":"u","messageId":"ID","properties":${evil},"context":${evil},"traits":${evil}}]}`,
    `{"writeKey":"${writeKey}","__proto__":${evil},"context":${evil},"integrations":${evil},"batch":[{"type":"track","event":"e","userId":"u","messageId":"ID","__proto__":${evil}}]}`,
  ];
  for (const body of bodies) {
    const id = nextId();
    assert.equal((await post(body.replaceAll('ID', id))).status, 200);
    assert.ok(await isStored(id));
  }
  const clean = nextId();
  const answer = await post({ batch: [track(clean)] });
  assert.deepEqual(answer.body, { success: true });
  const [row] = await sql<{ text: string }[]>`
    select payload::text as text from warehouse.events where message_id = ${clean}`;
  assert.deepEqual(JSON.parse(row?.text ?? '{}'), track(clean));
});

test('A6: message ids: too long is refused, numbers are taken, another key’s are another source’s; the first content wins', async () => {
  const long = await post({ ...track('x'.repeat(1_000_000)) }, { path: '/v1/track' });
  assert.deepEqual([long.status, long.body['code']], [400, 'invalid_event']);
  const over = await post({ ...track('x'.repeat(256)) }, { path: '/v1/track' });
  assert.deepEqual([over.status, over.body['code']], [400, 'invalid_event']);
  assert.equal(
    (
      await post({
        batch: [
          { ...track(''), messageId: 42 },
          { ...track(''), messageId: '' },
        ],
      })
    ).status,
    200,
  );
  assert.ok(await isStored('42'));

  const { writeKey: otherKey } = (await repeater.admin('POST', '/admin/sources', { name: 'other' })) as Json;
  const id = nextId();
  assert.equal((await post({ batch: [track(id, { properties: { first: true } })] })).status, 200);
  assert.equal((await post({ batch: [track(id, { properties: { first: false } })] })).status, 200);
  assert.equal((await post({ writeKey: otherKey, batch: [track(id)] })).status, 200);
  const rows = await sql<{ sourceId: number; first: boolean | null }[]>`
    select source_id as "sourceId", (payload->'properties'->>'first')::boolean as first
    from warehouse.events where message_id = ${id} order by id`;
  assert.equal(rows.length, 2);
  assert.equal(rows[0]?.first, true);
  assert.notEqual(rows[0]?.sourceId, rows[1]?.sourceId);
});

test('A8: who sends a byte now and then is cut off, headers within 10 s and bodies within 30, and nobody else waits', async () => {
  const heads = Array.from({ length: 150 }, () => ({
    start: 'POST /v1/batch HTTP/1.1\r\nHost: x\r\n',
    limitMs: 11_000,
  }));
  const bodies = Array.from({ length: 150 }, () => ({
    start: 'POST /v1/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n',
    limitMs: 31_000,
  }));
  const slow = [...heads, ...bodies].map(async ({ start, limitMs }) => {
    const socket = await openSocket(repeater.port);
    const startedAt = performance.now();
    const closed = new Promise((resolve) => socket.resume().on('close', resolve));
    socket.write(start);
    const drip = setInterval(() => socket.write('X'), 2_000);
    await closed;
    clearInterval(drip);
    const ms = performance.now() - startedAt;
    assert.ok(ms < limitMs, `${start.split('\r\n', 3)[2]}: after ${Math.round(ms)} ms`);
  });
  const waits: number[] = [];
  for (let sent = 0; sent < 30; sent++) {
    const startedAt = performance.now();
    await isAlive();
    waits.push(performance.now() - startedAt);
  }
  assert.ok(
    waits.every((ms) => ms < 2_000),
    `${Math.max(...waits)} ms`,
  );
  await Promise.all(slow);
  await isAlive();
});

test('A9: requests that two servers could read in two ways are refused, and the connection is closed', async () => {
  const head = 'POST /v1/batch HTTP/1.1\r\nHost: x\r\n';
  const smuggled = [
    'Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'Content-Length: 3\r\nContent-Length: 5\r\n\r\n{}',
    'Transfer-Encoding: xchunked\r\n\r\n',
    'Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n',
    'Content-Length : 2\r\n\r\n{}',
    'X-A: b\r\n c\r\nContent-Length: 2\r\n\r\n{}',
    'Content-Length: +2\r\n\r\n{}',
    'X-A: a\nContent-Length: 2\r\n\r\n{}',
    'Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n',
  ];
  for (const rest of smuggled) {
    const { status, ms } = await exchange(repeater.port, [head + rest]);
    assert.equal(status, 400, rest);
    assert.ok(ms < 5_000, `${rest} ${ms}`);
  }
  const fat = await exchange(repeater.port, [`${head}X-A: ${'x'.repeat(65_536)}\r\n\r\n`]);
  // Closed while it is still being sent, it may be a reset that the client sees.
  assert.ok(fat.status === 431 || fat.status === null, String(fat.status));
  await isAlive();
});

test('A10: a key over its rate is told when to come back, before its body is read; other keys go on', async () => {
  const limited = await startRepeater({ DATABASE_URL: database.url, RATE_LIMIT_PER_KEY: '50' });
  try {
    const { writeKey: quiet } = (await limited.admin('POST', '/admin/sources', { name: 'quiet' })) as Json;
    const send = async (key: unknown, events: number) => {
      const batch = Array.from({ length: events }, () => track(nextId()));
      const startedAt = performance.now();
      const response = await fetch(`${limited.address}/v1/batch`, {
        method: 'POST',
        headers: { authorization: `Bearer ${String(key)}`, origin: 'https://shop.example' },
        body: JSON.stringify({ batch }),
      });
      return { response, body: (await response.json()) as Json, ms: performance.now() - startedAt };
    };
    assert.equal((await send(writeKey, 100)).response.status, 200);
    const over = await send(writeKey, 1);
    assert.deepEqual([over.response.status, over.body['code']], [429, 'rate_limited']);
    const wait = Number(over.response.headers.get('retry-after'));
    assert.ok(wait >= 1 && wait <= 2, String(wait));
    assert.equal(over.response.headers.get('x-ratelimit-reset'), String(wait));
    assert.equal(over.response.headers.get('access-control-allow-origin'), 'https://shop.example');
    const inBody = await fetch(`${limited.address}/v1/track`, {
      method: 'POST',
      body: JSON.stringify({ ...track(nextId()), writeKey }),
    });
    assert.equal(inBody.status, 429);
    const early = await exchange(limited.port, [
      `POST /v1/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${writeKey}\r\nContent-Length: 5000000\r\n\r\n{`,
    ]);
    assert.deepEqual([early.status, early.headers.get('connection')], [429, 'close']);
    for (let sent = 0; sent < 20; sent++) assert.equal((await send(quiet, 1)).response.status, 200);
    await new Promise((resolve) => setTimeout(resolve, wait * 1_000));
    assert.equal((await send(writeKey, 1)).response.status, 200);
  } finally {
    await limited.kill('SIGTERM');
  }
});
