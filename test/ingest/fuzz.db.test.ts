/**
 * Arbitrary JSON and arbitrary bytes at every route: never a 5xx, the process lives, and what is sent properly
 * afterwards is stored. The seed is printed; FAST_CHECK_SEED runs it again.
 */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { hostileBatch, hostileEvent, jsonText } from '../support/hostile-json.ts';
import { type RepeaterProcess, startRepeater, writeKey } from '../support/process.ts';
import { exchange } from '../support/raw-http.ts';

let database: TestDatabase;
let sql: Sql;
let repeater: RepeaterProcess;
const seed = Number(process.env['FAST_CHECK_SEED'] ?? Math.floor(Math.random() * 2 ** 31));

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin');
  repeater = await startRepeater({ DATABASE_URL: database.url, TRUSTED_PROXIES: '1' });
});
after(async () => {
  await repeater.kill('SIGTERM');
  await sql.end();
  await database.drop();
});

const segments = [
  ...['identify', 'track', 'page', 'screen', 'group', 'alias', 'batch', 'import'],
  ...['i', 't', 'p', 's', 'g', 'a', 'b', 'm', 'nothing', ''],
];
const path = fc.oneof(
  fc
    .tuple(
      fc.constantFrom('/v1/', '/'),
      fc.constantFrom(...segments),
      fc.constantFrom('', '/', '//', '?writeKey=x'),
    )
    .map((parts) => parts.join('')),
  fc.constantFrom(
    '/beacon/v1/batch',
    `/v1/projects/${writeKey}/settings`,
    '/projects/%00/settings',
    '/projects/%ff%fe/settings',
    '/sourceConfig/',
    `/sourceConfig?writeKey=${writeKey}`,
    '/v1/pixel/track',
    '/v1/%74rack',
    '/%',
    '/..//v1/../etc/passwd',
  ),
  fc.base64String({ maxLength: 60 }).map((data) => `/v1/pixel/track?writeKey=${writeKey}&data=${data}`),
  fc
    .tuple(fc.webFragments(), fc.webQueryParameters())
    .map(([field, query]) => `/v1/pixel/page?writeKey=${writeKey}&properties.${field}=1&${query}`),
);

const body = fc.oneof(
  fc.uint8Array({ maxLength: 2_000 }).map((bytes) => Buffer.from(bytes)),
  fc.uint8Array({ maxLength: 500 }).map((bytes) => gzipSync(bytes)),
  fc.string({ maxLength: 300, unit: 'binary' }).map((text) => Buffer.from(text)),
  jsonText.map((text) => Buffer.from(text)),
  hostileEvent.map((text) => Buffer.from(text)),
  fc
    .tuple(fc.array(fc.oneof(hostileEvent, jsonText), { maxLength: 6 }), hostileBatch)
    .map(([events, rest]) =>
      Buffer.from(`{"batch":[${events.join(',')}],"more":${rest},"writeKey":"${writeKey}"}`),
    ),
  fc
    .tuple(jsonText, jsonText, jsonText)
    .map(([batch, context, key]) => Buffer.from(`{"batch":${batch},"context":${context},"writeKey":${key}}`)),
);

/** What may stand in a header of a request that Node itself agrees to send. */
const headerText = fc.stringMatching(/^[\x21-\x7e\xa1-\xff]{0,40}$/);
const headers = fc.record(
  {
    authorization: fc.oneof(
      fc.constant(`Basic ${Buffer.from(`${writeKey}:`).toString('base64')}`),
      fc.constant(`Bearer ${writeKey}`),
      headerText,
      headerText.map((text) => `Basic ${text}`),
    ),
    'content-type': headerText,
    'content-encoding': fc.constantFrom('gzip', 'identity', 'br', '', 'GZIP', 'x-gzip'),
    origin: headerText,
    host: fc.oneof(fc.constantFrom('localhost', '[::1]:80', 'a b', 'x'.repeat(300), '@', '%'), headerText),
    'x-forwarded-for': headerText,
    'x-forwarded-host': headerText,
    'access-control-request-headers': headerText,
    'access-control-request-method': headerText,
  },
  { requiredKeys: [] },
);
const method = fc.constantFrom(
  'POST',
  'POST',
  'POST',
  'POST',
  'GET',
  'PUT',
  'OPTIONS',
  'DELETE',
  'HEAD',
  'PATCH',
);

interface Shot {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
}

function send({ method, path, headers, body }: Shot): Promise<number> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { port: repeater.port, method, path, headers: { ...headers }, agent: false },
      (incoming) => {
        incoming.resume();
        incoming.on('end', () => resolve(incoming.statusCode ?? 0));
        incoming.on('error', reject);
      },
    );
    outgoing.on('error', reject);
    outgoing.end(method === 'GET' || method === 'HEAD' ? undefined : body);
  });
}

let count = 0;

async function storesAfterwards(): Promise<void> {
  const messageId = `good-${++count}`;
  const event = { writeKey, userId: 'good', event: 'Good', messageId };
  const status = await send({
    method: 'POST',
    path: '/v1/track',
    headers: {},
    body: Buffer.from(JSON.stringify(event)),
  });
  assert.equal(status, 200);
  const [row] = await sql`select from warehouse.events where message_id = ${messageId}`;
  assert.ok(row, 'the event is stored');
  assert.equal(repeater.child.exitCode, null);
}

test('whatever is sent to whatever route: never a 5xx, and the next good event is stored', async (context) => {
  context.diagnostic(`seed ${seed}`);
  let shots = 0;
  await fc.assert(
    fc.asyncProperty(fc.record({ method, path, headers, body }), async (shot) => {
      const status = await send(shot);
      assert.ok(status >= 200 && status < 500, String(status));
      if (++shots % 100 === 0) await storesAfterwards();
    }),
    { numRuns: 2_500, seed },
  );
  await storesAfterwards();
  assert.doesNotMatch(repeater.output(), /"level":"error"/);
});

test('whatever bytes come on a connection: never a 5xx, and the next good event is stored', async () => {
  const start = fc.constantFrom(
    '',
    'GET / HTTP/1.1\r\n',
    'POST /v1/batch HTTP/1.1\r\nHost: x\r\n',
    'POST /v1/t HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n',
  );
  await fc.assert(
    fc.asyncProperty(start, fc.uint8Array({ maxLength: 200 }), async (text, bytes) => {
      // The last part is no request in any state of the parser, so that it does not wait for more.
      const { status } = await exchange(
        repeater.port,
        [text, Buffer.from(bytes), '\r\n\r\n\0\r\n\r\n'],
        (got) => /^HTTP\/1\.1 [2-5]/.test(got),
      );
      assert.ok(status === null || status < 500, String(status));
    }),
    { numRuns: 400, seed },
  );
  await storesAfterwards();
});
