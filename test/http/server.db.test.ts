/**
 * The admin API over a real socket, where requests come without a length, in chunks or with too much: what an
 * application that is handed a `Request` never sees.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import { after, before, test } from 'node:test';
import { Hono } from 'hono';
import { createDocs } from '../../src/admin/docs.ts';
import { createApp } from '../../src/http/app.ts';
import { type HttpServer, listen } from '../../src/http/server.ts';
import { createLog } from '../../src/lib/log.ts';
import { adminToken, type AdminApp, createAdminApp } from '../support/admin-app.ts';

let app: AdminApp;
let server: HttpServer;

before(async () => {
  app = await createAdminApp();
  const served = createApp({
    log: createLog({ level: 'silent' }),
    health: new Hono(),
    ingest: null,
    admin: app.adminApi,
    docs: createDocs(app.adminApi),
  });
  server = await listen(served, { host: '127.0.0.1', port: 0 });
  const settings = { url: 'https://vendor.example/in' };
  await app.call('POST', '/admin/destinations', { type: 'probe', name: 'one', settings });
});
after(async () => {
  await server.close();
  await app.close();
});

interface Answer {
  status: number | undefined;
  headers: IncomingMessage['headers'];
  // Answers are compared field by field, whatever they are.
  // oxlint-disable-next-line typescript/no-explicit-any
  body: any;
}

/** Sends the chunks as they are, without a Content-Length; none: no body at all. */
async function send(method: string, path: string, chunks: readonly string[] = []): Promise<Answer> {
  const outgoing = request({
    port: server.port,
    method,
    path,
    agent: false,
    headers: {
      authorization: `Bearer ${adminToken}`,
      ...(chunks.length > 0 ? { 'transfer-encoding': 'chunked' } : {}),
    },
  });
  // A refused body may be cut off while it is still being sent.
  outgoing.on('error', () => undefined);
  for (const chunk of chunks) outgoing.write(chunk);
  outgoing.end();
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage];
  const parts: Buffer[] = [];
  for await (const part of incoming) parts.push(part as Buffer);
  const text = Buffer.concat(parts).toString();
  const isJson = incoming.headers['content-type']?.includes('json') === true;
  return {
    status: incoming.statusCode,
    headers: incoming.headers,
    body: isJson ? (JSON.parse(text) as unknown) : text,
  };
}

test('a request without a body reaches its route', async () => {
  const destination = { type: 'probe', name: 'two', settings: { url: 'https://vendor.example/in' } };
  const made = await send('POST', '/admin/destinations', [JSON.stringify(destination)]);
  assert.equal(made.status, 201);
  assert.equal((await send('DELETE', `/admin/destinations/${made.body.id}`)).status, 204);
  assert.equal((await send('DELETE', `/admin/destinations/${made.body.id}`)).status, 404);
  assert.equal((await send('POST', '/admin/replays/rpl_99/pause')).status, 404);
  assert.equal((await send('PUT', '/admin/sources')).status, 404);
  assert.deepEqual((await send('POST', '/admin/sources')).body.code, 'invalid_json');
});

test('a body that comes in chunks is read whole, even in the middle of a character', async () => {
  const bytes = Buffer.from('{"name":"größe"}');
  const outgoing = request({
    port: server.port,
    method: 'POST',
    path: '/admin/sources',
    agent: false,
    headers: { authorization: `Bearer ${adminToken}`, 'transfer-encoding': 'chunked' },
  });
  for (const byte of bytes) outgoing.write(Buffer.from([byte]));
  outgoing.end();
  const [incoming] = (await once(outgoing, 'response')) as [IncomingMessage];
  incoming.resume();
  assert.equal(incoming.statusCode, 201);
  const { body } = await app.call('GET', '/admin/sources');
  assert.ok(body.data.some(({ name }: { name: string }) => name === 'größe'));
});

test('a body over 1 MB is refused, and the next request is answered', async () => {
  const half = 'x'.repeat(600_000);
  const long = await send('POST', '/admin/sources', ['{"name":"', half, half, '"}']);
  assert.equal(long.status, 400);
  assert.equal(long.body.code, 'body_too_large');
  assert.equal((await send('GET', '/admin/sources')).status, 200);
});

test('a browser that opens the address lands on the documentation', async () => {
  const { status, headers } = await send('GET', '/');
  assert.deepEqual([status, headers.location], [302, '/docs']);
  const page = await send('GET', '/docs');
  assert.equal(page.status, 200);
  assert.match(String(page.headers['content-type']), /^text\/html/);
});

test('every route of the admin API is in the OpenAPI document, and nothing else is', async () => {
  const { body: document } = await send('GET', '/docs/openapi.json');
  const documented = Object.entries<object>(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  const served = app.adminApi.routes
    .filter(({ method }) => method !== 'ALL')
    .map(({ method, path }) => `${method} /admin${path.replace(/\/$/, '').replaceAll(/:(\w+)/g, '{$1}')}`);
  assert.deepEqual(documented.toSorted(), [...new Set(served)].toSorted());
});
