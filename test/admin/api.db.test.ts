import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { describeApi } from '../../src/admin/docs.ts';
import { errorCatalogue } from '../../src/lib/errors.ts';
import { type AdminApp, createAdminApp } from '../support/admin-app.ts';

let app: AdminApp;
let writeKey: string;

before(async () => {
  app = await createAdminApp();
  writeKey = (await app.call('POST', '/admin/sources', { name: 'web' })).body.writeKey;
});
after(async () => app.close());

const codeOf = async (response: Response) => ((await response.json()) as { code: string }).code;

/** Every route of the OpenAPI document, with ids filled in. */
async function routes(): Promise<{ method: string; path: string; hasBody: boolean }[]> {
  const { paths } = await describeApi(app.adminApi);
  return Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations as Record<string, { requestBody?: unknown }>).map(([method, operation]) => ({
      method: method.toUpperCase(),
      path: path.replace('{id}', path.includes('replays') ? 'rpl_1' : 'dst_1'),
      hasBody: operation.requestBody !== undefined,
    })),
  );
}

test('the document names every route, with its body, parameters and answers', async () => {
  const { body: document } = await app.call('GET', '/docs/openapi.json');
  assert.deepEqual(Object.keys(document.paths).sort(), [
    '/admin/dead-letters',
    '/admin/destination-types',
    '/admin/destinations',
    '/admin/destinations/{id}',
    '/admin/destinations/{id}/status',
    '/admin/events',
    '/admin/events/export',
    '/admin/events/stream',
    '/admin/parked-users',
    '/admin/reload',
    '/admin/replays',
    '/admin/replays/preview',
    '/admin/replays/{id}',
    '/admin/replays/{id}/cancel',
    '/admin/replays/{id}/pause',
    '/admin/replays/{id}/resume',
    '/admin/sources',
    '/admin/sql',
  ]);
  const create = document.paths['/admin/destinations'].post;
  const body = create.requestBody.content['application/json'].schema;
  assert.deepEqual(body.required, ['type', 'name']);
  assert.equal(body.properties.startFrom.default, 'now');
  assert.equal(body.additionalProperties, false);
  assert.ok(create.responses[201].content['application/json'].schema.properties.settings);
  assert.match(create.responses[400].description, /invalid_request.*blocked_address/);
  const limit = document.paths['/admin/events'].get.parameters.find(
    (each: { name: string }) => each.name === 'limit',
  );
  assert.equal(limit.schema.default, '100');
});

test('no route answers without the token: none, a wrong one, or a write key', async () => {
  const all = await routes();
  assert.ok(all.length >= 21, `${all.length} routes`);
  const basic = `Basic ${Buffer.from(`${writeKey}:`).toString('base64')}`;
  const wrong = ['', 'Bearer', 'Bearer wrong', `Bearer ${writeKey}`, basic, `Bearer ${'x'.repeat(10_000)}`];
  for (const authorization of wrong) {
    for (const { method, path } of [
      ...all,
      { method: 'GET', path: '/admin/nothing' },
      { method: 'GET', path: '/admin' },
    ]) {
      const response = await app.fetch(path, { method, headers: { authorization } });
      assert.equal(response.status, 401, `${method} ${path} with ${authorization.slice(0, 40)}`);
      assert.equal(await codeOf(response), 'unauthorized');
    }
  }
});

test('what does not exist is told to the admin only', async () => {
  for (const path of [
    '/admin/nothing',
    '/admin/destinations/dst_99',
    '/admin/destinations/src_1',
    '/admin/replays/rpl_99',
  ]) {
    const { status, body } = await app.call('GET', path);
    assert.equal(status, 404, path);
    assert.equal(body.code, 'not_found');
  }
});

test('no route takes fields it does not know, and each problem is named', async () => {
  const bodies = [
    ['/admin/sources', { name: 'x', id: 'src_9', createdAt: '2020-01-01' }, ['id', 'createdAt']],
    [
      '/admin/destinations',
      { type: 'probe', name: 'x', settings: {}, version: 3, role: 'admin' },
      ['version', 'role'],
    ],
    [
      '/admin/replays',
      { destinationId: 'dst_1', selection: { filter: 'x' }, total: 1 },
      ['selection.filter', 'total'],
    ],
    ['/admin/sql', { query: 'select 1', role: 'postgres' }, ['role']],
  ] as const;
  for (const [path, body, fields] of bodies) {
    const answer = await app.call('POST', path, body);
    assert.equal(answer.status, 400, path);
    assert.equal(answer.body.code, 'invalid_request');
    // valibot stops at the first unknown field of an object.
    for (const { field, expected } of answer.body.details) {
      assert.ok((fields as readonly string[]).includes(field), `${path} ${field}`);
      assert.equal(expected, 'no field of this name');
    }
  }
  assert.equal((await app.sql`select from repeater.sources`).length, 1);
  assert.equal((await app.sql`select from repeater.destinations`).length, 0);
});

test('all problems of a request come at once, by path, in words', async () => {
  const { status, body } = await app.call('POST', '/admin/replays', {
    destinationId: 5,
    selection: { from: 'yesterday', types: ['click'], fromPosition: -1, userIds: [] },
    ratePerSecond: 'fast',
  });
  assert.equal(status, 400);
  assert.deepEqual(
    body.details.map((problem: { field: string }) => problem.field),
    [
      'destinationId',
      'selection.from',
      'selection.fromPosition',
      'selection.types.0',
      'selection.userIds',
      'ratePerSecond',
    ],
  );
  assert.match(body.details[1].expected, /ISO 8601/);
  assert.equal(body.message, 'destinationId: expected string, got 5.');
  const missing = await app.call('POST', '/admin/sources', {});
  assert.deepEqual(missing.body.details, [{ field: 'name', expected: 'to be present', got: 'nothing' }]);
});

test('bodies: any content type, but JSON and at most 1 MB', async () => {
  const form = { 'content-type': 'application/x-www-form-urlencoded' };
  const made = await app.fetch('/admin/sources', {
    method: 'POST',
    body: '{"name":"by curl"}',
    headers: form,
  });
  assert.equal(made.status, 201);
  for (const body of ['', 'name=x', '{"name":']) {
    const response = await app.fetch('/admin/sources', { method: 'POST', body });
    assert.deepEqual([response.status, await codeOf(response)], [400, 'invalid_json']);
  }
  const long = await app.fetch('/admin/sources', {
    method: 'POST',
    body: JSON.stringify({ name: 'x'.repeat(1 << 20) }),
  });
  assert.deepEqual([long.status, await codeOf(long)], [errorCatalogue.body_too_large[0], 'body_too_large']);
});

test('lists: pages join without gap or overlap, limits and cursors are checked', async () => {
  for (let index = 0; index < 7; index++)
    await app.call('POST', '/admin/sources', { name: `source ${index}` });
  const names: string[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const { body } = await app.call('GET', `/admin/sources?limit=3${cursor && `&cursor=${cursor}`}`);
    names.push(...body.data.map((source: { name: string }) => source.name));
    cursor = body.next;
  }
  assert.deepEqual(names, ['web', 'by curl', ...Array.from({ length: 7 }, (_, index) => `source ${index}`)]);
  const bad = [
    'limit=0',
    'limit=1001',
    'limit=1e3',
    'limit=x',
    'limit=1&limit=2',
    'cursor=%27%3B',
    'cursor=WyJ4Il0',
    'sort=name',
  ];
  for (const query of bad)
    assert.equal((await app.call('GET', `/admin/sources?${query}`)).status, 400, query);
});

test('sources: shown with their newest valid key; names are unique', async () => {
  const { body } = await app.call('GET', '/admin/sources?limit=1');
  const [web] = body.data;
  assert.deepEqual([web.id, web.name, web.enabled, web.writeKey], ['src_1', 'web', true, writeKey]);
  assert.match(web.createdAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/);
  await app.sql`insert into repeater.write_keys (key, source_id, expires_at) values ('expired', 1, now() - interval '1 day')`;
  await app.sql`insert into repeater.write_keys (key, source_id, created_at) values ('newer', 1, now() + interval '1 day')`;
  const later = (await app.call('GET', '/admin/sources?limit=1')).body.data[0];
  assert.equal(later.writeKey, 'newer');
  assert.deepEqual(
    later.writeKeys.map((key: { key: string }) => key.key),
    ['newer', writeKey],
  );
  const again = await app.call('POST', '/admin/sources', { name: 'web' });
  assert.deepEqual([again.status, again.body.code], [409, 'conflict']);
});

test('the documentation page needs no other host', async () => {
  const page = await app.fetch('/docs');
  assert.equal(page.status, 200);
  assert.match(page.headers.get('content-security-policy') ?? '', /default-src 'none'/);
  assert.doesNotMatch(await page.text(), /https?:|<script>/);
  for (const file of ['swagger-ui.css', 'swagger-ui-bundle.js', 'start.js']) {
    const response = await app.fetch(`/docs/${file}`);
    assert.equal(response.status, 200, file);
    await response.arrayBuffer();
  }
  assert.equal((await app.fetch('/docs/package.json')).status, 404);
});
