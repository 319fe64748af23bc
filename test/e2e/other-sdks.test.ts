/**
 * SDKs of other languages, replayed byte for byte as they write to the wire (headers, encodings, shapes, timestamps):
 * each gets exactly the answer that it takes for success, and what it sent is stored, at the instant it meant.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import type { Json } from '../support/http-proxy.ts';
import { type RepeaterProcess, startRepeater, writeKey } from '../support/process.ts';

interface Wire {
  readonly path: string;
  /** Header lines but Host and those about length, in the SDK's order and spelling. */
  readonly headers: readonly string[];
  readonly body: string;
  readonly coding?: 'gzip';
  /** In chunks of this many bytes instead of with a Content-Length. */
  readonly chunkBytes?: number;
  /** The SDK waits for `100 Continue` before it sends the body. */
  readonly expects?: true;
  /** Some of what must be stored of the first event. */
  readonly stored: Json;
  /** The first event happened this long before it was sent, whatever the clock of the sender says. */
  readonly ageMs?: number;
}

const basic = `Authorization: Basic ${Buffer.from(`${writeKey}:`).toString('base64')}`;
const sentAt = '2026-11-24T08:30:00.000Z';
const key = JSON.stringify(writeKey);

const sdks: Readonly<Record<string, Wire>> = {
  'analytics-python 2.3': {
    path: '/v1/batch',
    headers: [
      'User-Agent: analytics-python/2.3.4',
      'Accept-Encoding: gzip, deflate',
      'Accept: */*',
      'Connection: keep-alive',
      'Content-Type: application/json',
    ],
    body: `{"batch": [{"integrations": {}, "anonymousId": null, "timestamp": "2026-11-24T08:29:00.123456+00:00", "context": {"library": {"name": "analytics-python", "version": "2.3.4"}}, "userId": "python", "properties": {"big": 9007199254740993, "ratio": 0.1}, "event": "Ran", "messageId": "py-1", "type": "track"}], "sentAt": "2026-11-24T08:30:00.123456+00:00", "writeKey": ${key}}`,
    stored: { event: 'Ran', anonymousId: null },
    ageMs: 60_000,
  },
  'analytics-python 2.3 with gzip': {
    path: '/v1/batch',
    headers: [
      'User-Agent: analytics-python/2.3.4',
      'Content-Type: application/json',
      'Content-Encoding: gzip',
    ],
    coding: 'gzip',
    body: `{"batch": [{"userId": "python-gzip", "anonymousId": null, "event": "Ran", "messageId": "py-2", "type": "track", "properties": {}}], "sentAt": "${sentAt}", "writeKey": ${key}}`,
    stored: { event: 'Ran' },
  },
  'analytics-ruby 2.5': {
    path: '/v1/import',
    headers: [
      'Content-Type: application/json',
      'Accept: application/json',
      'User-Agent: analytics-ruby/2.5.0',
      'Accept-Encoding: gzip;q=1.0,deflate;q=0.6,identity;q=0.3',
      basic,
      'Connection: close',
    ],
    body: `{"sentAt":"2026-11-24T08:30:00.000Z","batch":[{"context":{"library":{"name":"analytics-ruby","version":"2.5.0"}},"messageId":"rb-1","timestamp":"2026-11-24T09:29:00.000+01:00","userId":"ruby","type":"identify","traits":{"email":"a@example.com"}}]}`,
    stored: { type: 'identify', traits: { email: 'a@example.com' } },
    ageMs: 60_000,
  },
  'analytics-go 3.3': {
    path: '/v1/batch',
    headers: [
      'User-Agent: analytics-go (version: 3.0.0)',
      basic,
      'Content-Type: application/json',
      'Accept-Encoding: gzip',
    ],
    body: `{"messageId":"batch-1","sentAt":"2026-11-24T08:30:00.123456789Z","batch":[{"type":"track","messageId":"go-1","userId":"go","event":"Ran","timestamp":"2026-11-24T08:29:00.123456789Z","properties":{"n":9223372036854775807}}],"context":{"library":{"name":"analytics-go","version":"3.0.0"}}}`,
    stored: { context: { library: { name: 'analytics-go', version: '3.0.0' } } },
    ageMs: 60_000,
  },
  'analytics-java 3.5': {
    path: '/v1/import/',
    headers: [
      basic,
      'User-Agent: analytics-java/3.5.0',
      'Content-Type: application/json; charset=utf-8',
      'Connection: Keep-Alive',
      'Accept-Encoding: gzip',
    ],
    body: `{"batch":[{"type":"track","messageId":"java-1","timestamp":"2026-11-24T08:29:00.000Z","context":{"library":{"name":"mine"}},"userId":"java","event":"Ran","properties":{"n":9007199254740993}}],"sentAt":"2026-11-24T08:30:00.000Z","context":{"library":{"name":"analytics-java","version":"3.5.0"},"app":"shop"},"sequence":1,"writeKey":${key}}`,
    // What the event says wins over what the batch says.
    stored: { context: { library: { name: 'mine' }, app: 'shop' } },
    ageMs: 60_000,
  },
  'analytics-php 3.8': {
    path: '/v1/batch',
    headers: [
      basic,
      'Accept: */*',
      'Content-Type: application/json',
      'User-Agent: analytics-php/3.8.2',
      'Expect: 100-continue',
    ],
    expects: true,
    body: `{"batch":[{"userId":"php","event":"Ran","properties":[],"context":{"library":{"name":"analytics-php","version":"3.8.2","consumer":"LibCurl"}},"messageId":"php-1","timestamp":"2026-11-24T08:29:00+00:00","type":"track"}],"sentAt":"2026-11-24T08:30:00+00:00"}`,
    // PHP has one type for both; taken as an object, kept as sent.
    stored: { properties: [] },
    ageMs: 60_000,
  },
  'analytics-kotlin 1.24': {
    path: '/v1/b',
    headers: [
      'Content-Type: text/plain',
      'User-Agent: analytics-kotlin/1.24.1',
      'Content-Encoding: gzip',
      'Accept: */*',
      'Connection: Keep-Alive',
      'Accept-Encoding: gzip',
    ],
    coding: 'gzip',
    chunkBytes: 61,
    body: `{"batch":[{"properties":{"a":1},"event":"Ran","type":"track","messageId":"kt-1","anonymousId":"kotlin-device","context":{"library":{"name":"analytics-kotlin","version":"1.24.1"},"device":{"type":"android"}},"integrations":{},"userId":"kotlin","timestamp":"2026-11-24T08:29:00.000Z","_metadata":{"bundled":[],"unbundled":[],"bundledIds":[]}}],"sentAt":"2026-11-24T08:30:00.000Z","writeKey":${key}}`,
    stored: { anonymousId: 'kotlin-device', _metadata: { bundled: [], unbundled: [], bundledIds: [] } },
    ageMs: 60_000,
  },
  'analytics-swift 1.9': {
    path: '/v1/b',
    headers: [
      'Content-Type: application/json; charset=utf-8',
      'User-Agent: analytics-ios/1.9.4',
      'Accept-Encoding: gzip',
      'Accept: */*',
      'Accept-Language: de-CH',
    ],
    body: `{ "batch": [{"type":"screen","messageId":"swift-1","name":"Home","properties":{},"anonymousId":"swift-device","userId":"swift","timestamp":"2026-11-24T08:29:00.000Z","context":{"library":{"name":"analytics-swift","version":"1.9.4"}},"integrations":{}}], "sentAt": "2026-11-24T08:30:00.000Z", "writeKey": ${key} }`,
    stored: { type: 'screen', name: 'Home' },
    ageMs: 60_000,
  },
  'Analytics-CSharp 2': {
    path: '/v1/b',
    headers: ['User-Agent: analytics-csharp/2.5.3', 'Content-Encoding: gzip'],
    coding: 'gzip',
    body: `{"batch":[{"type":"track","messageId":"cs-1","event":"Ran","properties":{},"anonymousId":"cs-device","userId":"csharp","timestamp":"2026-11-24T09:29:00.1234567+01:00","context":{},"integrations":{}}],"sentAt":"2026-11-24T09:30:00.1234567+01:00","writeKey":${key}}`,
    stored: { anonymousId: 'cs-device' },
    ageMs: 60_000,
  },
  'analytics-react-native 2.24': {
    path: '/v1/b',
    headers: ['Content-Type: application/json; charset=utf-8', 'User-Agent: okhttp/4.9.2'],
    body: `{"batch":[{"type":"group","groupId":"g-1","traits":{},"anonymousId":"rn-device","userId":"react-native","messageId":"rn-1","timestamp":"2026-11-24T08:29:00.000Z","context":{},"integrations":{},"_metadata":{"bundled":[],"unbundled":[],"bundledIds":[]}}],"sentAt":"2026-11-24T08:30:00.000Z","writeKey":${key}}`,
    stored: { type: 'group', groupId: 'g-1' },
    ageMs: 60_000,
  },
  'rudder-sdk-ruby 3.2': {
    path: '/v1/batch',
    headers: ['Content-Type: application/json', 'User-Agent: Ruby', 'Content-Encoding: gzip', basic],
    coding: 'gzip',
    body: `{"batch":[{"userId":"rudder-ruby","anonymousId":"r","event":"Ran","properties":{},"type":"track","messageId":"rr-1","channel":"server","originalTimestamp":"2026-11-24T08:29:00.000Z","sentAt":"2026-11-24T08:30:00.000Z","integrations":{"All":true}}]}`,
    stored: { channel: 'server' },
    ageMs: 60_000,
  },
};

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

/** Writes a request and reads the answer to its end. */
async function exchange(wire: Wire): Promise<{ status: string; body: string }> {
  const { port } = repeater;
  const body = wire.coding === 'gzip' ? gzipSync(wire.body) : Buffer.from(wire.body);
  const length = wire.chunkBytes ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`;
  const kept = wire.headers.filter((line) => !line.startsWith('Connection:'));
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  // The only change: the answer is read until the connection ends.
  const head = [
    `POST ${wire.path} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    ...kept,
    length,
    'Connection: close',
  ];
  socket.write(`${head.join('\r\n')}\r\n\r\n`);
  if (wire.expects) {
    const [go] = (await once(socket, 'data')) as [Buffer];
    assert.equal(go.toString(), 'HTTP/1.1 100 Continue\r\n\r\n');
  }
  if (wire.chunkBytes === undefined) socket.write(body);
  else {
    for (let start = 0; start < body.length; start += wire.chunkBytes) {
      const chunk = body.subarray(start, start + wire.chunkBytes);
      socket.write(`${chunk.length.toString(16)}\r\n`);
      socket.write(chunk);
      socket.write('\r\n');
    }
    socket.write('0\r\n\r\n');
  }
  const text = (await buffer(socket)).toString();
  const [answerHead = '', answer = ''] = text.split('\r\n\r\n', 2);
  return { status: answerHead.split('\r\n', 1)[0] ?? '', body: answer };
}

for (const [name, wire] of Object.entries(sdks)) {
  test(`${name}: taken and stored, once however often it is sent`, async () => {
    const before = Date.now();
    for (let time = 0; time < 2; time++) {
      assert.deepEqual(await exchange(wire), { status: 'HTTP/1.1 200 OK', body: '{"success":true}' });
    }
    const [sent] = (JSON.parse(wire.body) as { batch: Json[] }).batch;
    const rows = await sql<{ text: string; ms: number }[]>`
      select payload::text as text, extract(epoch from timestamp)::float8 * 1000 as ms
      from warehouse.events where message_id = ${sent?.['messageId'] as string}`;
    assert.equal(rows.length, 1);
    const [row] = rows;
    const kept = JSON.parse(row?.text ?? '') as Json;
    assert.partialDeepStrictEqual(kept, wire.stored);
    assert.equal(kept['userId'], sent?.['userId']);
    const { ageMs } = wire;
    if (ageMs === undefined) return;
    const happenedMs = row?.ms ?? 0;
    const fits = happenedMs >= before - ageMs - 5 && happenedMs <= Date.now() - ageMs + 5;
    assert.ok(fits, new Date(happenedMs).toISOString());
  });
}

test('numbers beyond 2^53 from Python, Go and Java keep every digit', async () => {
  const rows = await sql<{ id: string; value: string }[]>`
    select message_id as id, coalesce(payload->'properties'->>'big', payload->'properties'->>'n') as value
    from warehouse.events where message_id in ('py-1', 'go-1', 'java-1') order by 1`;
  assert.deepEqual(
    rows.map(({ id, value }) => [id, value]),
    [
      ['go-1', '9223372036854775807'],
      ['java-1', '9007199254740993'],
      ['py-1', '9007199254740993'],
    ],
  );
});
