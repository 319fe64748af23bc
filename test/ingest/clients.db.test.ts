/**
 * The door as SDKs find it, over real sockets: every path in every form, every way to name the key, every encoding,
 * the documents they load first, and what a browser needs to see of all that.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { type RepeaterProcess, startRepeater, writeKey } from '../support/process.ts';
import { exchange } from '../support/raw-http.ts';

let database: TestDatabase;
let sql: Sql;
let repeater: RepeaterProcess;
/** Believes one proxy in front. */
let behindProxy: RepeaterProcess;

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin');
  repeater = await startRepeater({ DATABASE_URL: database.url });
  behindProxy = await startRepeater({ DATABASE_URL: database.url, TRUSTED_PROXIES: '1' });
});
after(async () => {
  await behindProxy.kill('SIGTERM');
  await repeater.kill('SIGTERM');
  await sql.end();
  await database.drop();
});

type Json = Record<string, unknown>;

const basic = `Basic ${Buffer.from(`${writeKey}:`).toString('base64')}`;
const types = { i: 'identify', t: 'track', p: 'page', s: 'screen', g: 'group', a: 'alias' } as const;
let count = 0;
const nextId = () => `m-${++count}`;

function eventOf(type: string, messageId: string): Json {
  return { type, event: 'Tested', userId: 'u', groupId: 'g', previousId: 'p', messageId };
}

interface Init {
  readonly headers?: Readonly<Record<string, string>>;
  readonly stream?: ReadableStream<Uint8Array>;
}

function post(path: string, body: object | string, init: Init = {}, server = repeater): Promise<Response> {
  const bytes = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  return fetch(`${server.address}${path}`, {
    method: 'POST',
    redirect: 'error',
    headers: { authorization: basic, ...init.headers },
    ...(init.stream ? { body: init.stream, duplex: 'half' } : { body: bytes as string }),
  });
}

async function storedType(messageId: string): Promise<string | undefined> {
  const [row] = await sql<
    { type: string }[]
  >`select type from warehouse.events where message_id = ${messageId}`;
  return row?.type;
}

async function storedPayload(messageId: string): Promise<Json> {
  const [row] = await sql<{ text: string }[]>`
    select payload::text as text from warehouse.events where message_id = ${messageId}`;
  assert.ok(row, `${messageId} is stored`);
  return JSON.parse(row.text) as Json;
}

const slashes = ['', '/'];
const prefixes = ['/v1', ''];

test('every path stores, in its long and its short form, with and without prefix and trailing slash', async () => {
  const single = Object.entries(types).flatMap(([short, type]) => [
    { path: short, type },
    { path: type, type },
  ]);
  const batches = ['batch', 'b', 'import'].map((path) => ({ path, type: null }));
  for (const { path, type } of [...single, ...batches]) {
    for (const prefix of prefixes) {
      for (const slash of slashes) {
        const messageId = nextId();
        const event = eventOf(type ?? 'track', messageId);
        // The path says what a single call is.
        const response = await post(
          `${prefix}/${path}${slash}`,
          type === null ? { batch: [event] } : { ...event, type: 'x' },
        );
        const where = `${prefix}/${path}${slash}`;
        assert.equal(response.status, 200, where);
        assert.equal(await response.text(), '{"success":true}', where);
        assert.equal(await storedType(messageId), type ?? 'track', where);
      }
    }
  }
});

test('the key is found wherever SDKs put it', async () => {
  const forms: { name: string; headers?: Record<string, string>; query?: string; inBody?: boolean }[] = [
    { name: 'Basic', headers: { authorization: basic } },
    {
      name: 'Basic without a colon',
      headers: { authorization: `Basic ${Buffer.from(writeKey).toString('base64')}` },
    },
    { name: 'basic in lower case', headers: { authorization: basic.replace('Basic', 'basic') } },
    { name: 'Bearer', headers: { authorization: `Bearer ${writeKey}` } },
    { name: 'query', query: `?writeKey=${writeKey}` },
    { name: 'body', inBody: true },
    {
      name: 'an OAuth token, and the key in the body',
      headers: { authorization: 'Bearer eyJhbGciOi' },
      inBody: true,
    },
    { name: 'a broken header, and the key in the body', headers: { authorization: 'Basic' }, inBody: true },
  ];
  for (const { name, headers = { authorization: '' }, query = '', inBody } of forms) {
    for (const path of ['/v1/track', '/v1/batch']) {
      const messageId = nextId();
      const event = eventOf('track', messageId);
      const body = {
        ...(path === '/v1/track' ? event : { batch: [event] }),
        ...(inBody ? { writeKey } : {}),
      };
      assert.equal((await post(`${path}${query}`, body, { headers })).status, 200, `${name} ${path}`);
      assert.equal('writeKey' in (await storedPayload(messageId)), false, name);
    }
  }
});

test('without a key, or with one that is not known, nothing is stored and the answer says why', async () => {
  for (const [headers, inBody] of [
    [{ authorization: '' }, undefined],
    [{ authorization: 'Basic bm9uZTo=' }, undefined],
    [{ authorization: '' }, 'none'],
    [{ authorization: '' }, ''],
    [{ authorization: '' }, 7],
  ] as const) {
    const messageId = nextId();
    const response = await post(
      '/v1/track',
      { ...eventOf('track', messageId), writeKey: inBody },
      { headers },
    );
    assert.equal(response.status, 401);
    const body = (await response.json()) as Json;
    assert.deepEqual(
      [body['success'], body['code'], typeof body['message']],
      [false, 'unknown_write_key', 'string'],
    );
    assert.equal(await storedType(messageId), undefined);
  }
});

test('the content type is not looked at; gzip, chunks and charsets are read', async () => {
  const contentTypes = [
    'application/json',
    'application/json;charset=UTF-8',
    'text/plain',
    'application/x-www-form-urlencoded',
    'application/octet-stream',
    'multipart/form-data; boundary=x',
    'nonsense',
    '',
  ];
  for (const type of contentTypes) {
    for (const zip of [false, true]) {
      for (const inChunks of [false, true]) {
        const messageId = nextId();
        const plain = Buffer.from(JSON.stringify({ batch: [eventOf('track', messageId)], größe: 'ß' }));
        const bytes = zip ? gzipSync(plain) : plain;
        const middle = Math.floor(bytes.length / 2);
        const stream = new ReadableStream<Uint8Array>({
          start(controller) {
            for (const part of [bytes.subarray(0, middle), bytes.subarray(middle)]) controller.enqueue(part);
            controller.close();
          },
        });
        const headers = { 'content-type': type, ...(zip ? { 'content-encoding': 'gzip' } : {}) };
        const response = await post('/v1/batch', bytes, { headers, ...(inChunks ? { stream } : {}) });
        assert.equal(response.status, 200, `${type} ${zip} ${inChunks}`);
        assert.equal(await storedType(messageId), 'track');
      }
    }
  }
});

test('Expect: 100-continue is answered before the body, and a body that is too long is refused before it is sent', async () => {
  const body = JSON.stringify({ writeKey, batch: [eventOf('track', nextId())] });
  const head = (length: number) =>
    `POST /v1/batch HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: ${length}\r\n\r\n`;
  const taken = await exchange(repeater.port, [head(Buffer.byteLength(body)), body]);
  assert.match(taken.text, /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK/);
  const refused = await exchange(repeater.port, [head(50_000_000)]);
  assert.equal(refused.status, 400);
  assert.doesNotMatch(refused.text, /100 Continue/);
  assert.equal((JSON.parse(refused.body) as Json)['code'], 'body_too_large');
  assert.equal(refused.headers.get('connection'), 'close');
  assert.ok(refused.ms < 5_000, `${refused.ms} ms`);
});

test('CORS: every path and every answer is open to the page that asks, errors too', async () => {
  const origin = 'https://shop.example';
  const asked = 'authorization, content-type, x-retry-count';
  const paths = [
    '/v1/t',
    '/v1/batch/',
    '/i',
    '/v1/m',
    '/v1/projects/k/settings',
    '/sourceConfig/',
    '/beacon/v1/batch',
    '/unknown',
    '/v1/unknown/x',
  ];
  for (const path of paths) {
    const response = await fetch(`${repeater.address}${path}`, {
      method: 'OPTIONS',
      headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': asked },
    });
    assert.equal(response.status, 204, path);
    assert.equal(response.headers.get('access-control-allow-origin'), origin, path);
    assert.equal(response.headers.get('access-control-allow-credentials'), 'true', path);
    assert.equal(response.headers.get('access-control-allow-headers'), asked, path);
    assert.match(response.headers.get('access-control-allow-methods') ?? '', /GET, POST, OPTIONS/, path);
    assert.ok(Number(response.headers.get('access-control-max-age')) > 0, path);
    assert.match(response.headers.get('vary') ?? '', /Origin/, path);
  }
  const answers: [status: number, method: string, path: string, body?: string][] = [
    [200, 'POST', '/v1/t', JSON.stringify(eventOf('track', nextId()))],
    [200, 'POST', '/v1/m', '{"series":[]}'],
    [400, 'POST', '/v1/t', '{'],
    [400, 'POST', '/v1/t', '{}'],
    [401, 'POST', '/v1/t', 'no key'],
    [401, 'GET', '/sourceConfig'],
    [401, 'GET', '/v1/projects/none/settings'],
    [404, 'POST', '/v1/unknown', '{}'],
    [404, 'GET', '/unknown'],
    [405, 'GET', '/v1/track'],
    [405, 'PUT', '/v1/batch', '{}'],
    [405, 'POST', '/v1/projects/none/settings', '{}'],
  ];
  for (const [status, method, path, body] of answers) {
    const authorization = body === 'no key' || method === 'GET' ? '' : basic;
    const init = {
      method,
      headers: { origin, authorization },
      ...(body === undefined ? {} : { body: body === 'no key' ? '{}' : body }),
    };
    const response = await fetch(`${repeater.address}${path}`, init);
    assert.equal(response.status, status, `${method} ${path}`);
    assert.equal(response.headers.get('access-control-allow-origin'), origin, `${method} ${path}`);
    assert.match(
      response.headers.get('access-control-expose-headers') ?? '',
      /Retry-After, X-RateLimit-Reset/,
    );
    const answer = (await response.json()) as Json;
    if (status !== 200)
      assert.deepEqual([typeof answer['code'], typeof answer['message']], ['string', 'string']);
  }
  // The admin API stays closed.
  for (const method of ['OPTIONS', 'GET']) {
    const response = await fetch(`${repeater.address}/admin/sources`, { method, headers: { origin } });
    assert.equal(response.headers.get('access-control-allow-origin'), null, method);
  }
});

test('the settings document names this server, at both of its paths', async () => {
  for (const path of [
    `/v1/projects/${writeKey}/settings`,
    `/projects/${writeKey}/settings`,
    `/v1/projects/${writeKey}/settings/`,
  ]) {
    const response = await fetch(`${repeater.address}${path}`, {
      headers: { origin: 'https://shop.example' },
    });
    const document = (await response.json()) as { integrations: Json; metrics: Json };
    const segment = { apiKey: writeKey, apiHost: `127.0.0.1:${repeater.port}/v1`, protocol: 'http' };
    assert.deepEqual(document.integrations, { 'Segment.io': segment });
    assert.deepEqual(document.metrics, { sampleRate: 0 });
  }
  const forwarded = { 'x-forwarded-host': 'events.example.com', 'x-forwarded-proto': 'https' };
  const hostSeen = async (server: RepeaterProcess) => {
    const response = await fetch(`${server.address}/v1/projects/${writeKey}/settings`, {
      headers: forwarded,
    });
    return ((await response.json()) as { integrations: { 'Segment.io': Json } }).integrations['Segment.io'];
  };
  assert.deepEqual(await hostSeen(behindProxy), { apiKey: writeKey, apiHost: 'events.example.com/v1' });
  assert.equal((await hostSeen(repeater))['apiHost'], `127.0.0.1:${repeater.port}/v1`);
});

test('RudderStack’s SDKs get a source configuration that they accept, key in the query or by Basic', async () => {
  const query = `p=npm&v=3.34.0&build=modern&writeKey=${writeKey}&lockIntegrationsVersion=false`;
  for (const path of [`/sourceConfig/?${query}`, `/sourceConfig?${query}`, '/sourceConfig/']) {
    const headers = path.includes('?') ? {} : { authorization: basic };
    const response = await fetch(`${repeater.address}${path}`, { headers });
    assert.equal(response.status, 200, path);
    const { source } = (await response.json()) as { source: Json };
    // analytics-js: isValidSourceConfig; rudder-sdk-kotlin: every field without a default.
    assert.equal(typeof source['id'], 'string');
    assert.equal(source['enabled'], true);
    assert.deepEqual(source['destinations'], []);
    assert.equal(typeof source['config'], 'object');
    for (const field of ['name', 'writeKey', 'workspaceId', 'updatedAt'])
      assert.equal(typeof source[field], 'string', field);
  }
});

test('a beacon stores, with its key in the query and nothing else said', async () => {
  const messageId = nextId();
  const body = JSON.stringify({ batch: [eventOf('track', messageId)] });
  const headers = { authorization: '', 'content-type': 'text/plain;charset=UTF-8' };
  assert.equal((await post(`/beacon/v1/batch?writeKey=${writeKey}`, body, { headers })).status, 200);
  assert.equal(await storedType(messageId), 'track');
});

test('the pixel stores what its address says, and is an image whatever happens', async () => {
  const get = async (path: string) => {
    const response = await fetch(`${repeater.address}${path}`);
    assert.deepEqual([response.status, response.headers.get('content-type')], [200, 'image/gif'], path);
    assert.equal(response.headers.get('cache-control'), 'no-store');
    assert.match(Buffer.from(await response.arrayBuffer()).toString('latin1'), /^GIF89a/);
  };
  const inData = nextId();
  const data = Buffer.from(
    JSON.stringify({ ...eventOf('page', inData), writeKey, properties: { größe: '+/=' } }),
  );
  await get(`/v1/pixel/page?data=${data.toString('base64')}`);
  assert.deepEqual((await storedPayload(inData))['properties'], { größe: '+/=' });
  const urlSafe = nextId();
  const safe = Buffer.from(JSON.stringify({ ...eventOf('track', urlSafe), writeKey }));
  await get(`/v1/pixel/track/?data=${safe.toString('base64url')}`);
  assert.equal(await storedType(urlSafe), 'track');
  const inFields = nextId();
  await get(
    `/v1/pixel/track?writeKey=${writeKey}&userId=u&event=Mail+Opened&messageId=${inFields}&properties.mail.id=7&properties.__proto__.x=1`,
  );
  const stored = await storedPayload(inFields);
  assert.deepEqual(stored['event'], 'Mail Opened');
  assert.equal(JSON.stringify(stored['properties']).includes('"mail":{"id":"7"}'), true);
  assert.deepEqual(Object.keys(stored['properties'] as Json).toSorted(), ['__proto__', 'mail']);
  assert.equal((stored['context'] as Json)['ip'], '127.0.0.1');
  for (const path of [
    '/v1/pixel/track',
    '/v1/pixel/track?data=%%%',
    '/v1/pixel/nothing?userId=u',
    '/v1/pixel/track?data=eyJ9',
    '/v1/pixel/constructor',
  ])
    await get(path);
});

test('the address of a device is added to its events, through a proxy too, and none to those of a server', async () => {
  const ipOf = async (path: string, headers: Record<string, string>, event: Json = {}, server = repeater) => {
    const messageId = nextId();
    const one = { ...eventOf('track', messageId), ...event };
    const body =
      path.endsWith('b') || path.endsWith('batch') ? { batch: [one], writeKey } : { ...one, writeKey };
    assert.equal((await post(path, body, { headers }, server)).status, 200);
    return ((await storedPayload(messageId))['context'] as Json | undefined)?.['ip'];
  };
  const forwarded = { 'x-forwarded-for': '6.6.6.6, 1.2.3.4' };
  assert.equal(await ipOf('/v1/batch', {}), undefined);
  assert.equal(
    await ipOf('/v1/batch', { 'user-agent': 'analytics-python/2.3.4', ...forwarded }, {}, behindProxy),
    undefined,
  );
  assert.equal(await ipOf('/v1/batch', {}, { context: { direct: true } }), '127.0.0.1');
  assert.equal(await ipOf('/v1/t', {}), '127.0.0.1');
  assert.equal(await ipOf('/v1/b', {}), '127.0.0.1');
  assert.equal(await ipOf('/v1/track', { origin: 'https://shop.example' }), '127.0.0.1');
  assert.equal(await ipOf('/v1/batch', { anonymousid: 'YQ==' }), '127.0.0.1');
  assert.equal(await ipOf('/v1/t', forwarded), '127.0.0.1');
  assert.equal(await ipOf('/v1/t', forwarded, {}, behindProxy), '1.2.3.4');
  assert.equal(await ipOf('/v1/t', forwarded, { context: { ip: '0.0.0.0' } }, behindProxy), '0.0.0.0');
});
