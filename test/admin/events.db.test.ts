import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { serve } from '@hono/node-server';
import { Hono } from 'hono';
import * as v from 'valibot';
import * as answers from '../../src/admin/answers.ts';
import { exportEvents } from '../../src/admin/events.ts';
import { acceptedEvent, append } from '../support/accepted-events.ts';
import { type AdminApp, createAdminApp } from '../support/admin-app.ts';

let app: AdminApp;
const total = 20_000;

before(async () => {
  app = await createAdminApp();
  await app.call('POST', '/admin/sources', { name: 'web' });
  const events = Array.from({ length: total }, (_, index) =>
    acceptedEvent({
      userId: index % 2 ? `u${index % 500}` : null,
      anonymousId: `a${index % 700}`,
      event: `Event ${index % 10}`,
      properties: { index, text: 'a "quoted"\nline \u2028 and ✓', pad: 'x'.repeat(700) },
    }),
  );
  await append(app.sql, events, 2000);
});
after(async () => app.close());

async function exported(query: string): Promise<{ position: number; [key: string]: unknown }[]> {
  const response = await app.fetch(`/admin/events/export?${query}`);
  assert.equal(response.status, 200);
  assert.match(response.headers.get('content-type') ?? '', /^application\/x-ndjson/);
  const lines = (await response.text()).split('\n');
  assert.equal(lines.pop(), '', 'ends with a line break');
  return lines.map((line) => JSON.parse(line) as { position: number });
}

test('an export holds every event once, in position order, whole', async () => {
  const lines = await exported('format=ndjson');
  assert.equal(lines.length, total);
  lines.forEach((line, index) => assert.equal(line.position, index + 1));
  const line = lines[1234];
  v.parse(answers.storedEvent, line);
  assert.deepEqual(Object.keys(line ?? {}), [
    'position',
    'sourceId',
    'messageId',
    'type',
    'name',
    'userId',
    'anonymousId',
    'receivedAt',
    'timestamp',
    'event',
  ]);
  const event = line?.['event'] as { properties: { index: number; text: string } };
  assert.deepEqual([event.properties.index, event.properties.text], [1234, 'a "quoted"\nline \u2028 and ✓']);
  assert.deepEqual([line?.['sourceId'], line?.['name'], line?.['userId']], ['src_1', 'Event 4', null]);
});

test('an export obeys its filter; lists are given by repeating', async () => {
  const some = await exported(
    'events=Event%203&events=Event%205&fromPosition=101&toPosition=200&sources=web',
  );
  assert.equal(some.length, 20);
  assert.equal((await exported('userIds=u1&userIds=u3')).length, 80);
  const [row] = await app.sql`select received_at as at from warehouse.events where id = 10001`;
  const at = encodeURIComponent(String(row?.['at']));
  assert.deepEqual(
    [(await exported(`from=${at}`)).length, (await exported(`to=${at}`)).length],
    [10_000, 10_000],
  );
  assert.deepEqual(await exported('fromPosition=30000'), []);
  for (const query of [
    'from=x',
    'format=csv',
    'sources=nowhere',
    'types=click',
    'from=2026-01-02&to=2026-01-01',
    'event=x',
  ]) {
    assert.equal((await app.call('GET', `/admin/events/export?${query}`)).status, 400, query);
  }
});

test('a receiver that stops reading stops the export: it is not read into memory', async () => {
  let statements = 0;
  const counting = new Proxy(app.sql, {
    apply: (sql, self, [first, ...rest]: unknown[]) => {
      if (String((first as string[]).at(-1)).includes('::integer')) statements++;
      return Reflect.apply(sql, self, [first, ...rest]) as unknown;
    },
  });
  const route = new Hono().get('/', async (c) => c.body(await exportEvents(counting, {})));
  const server = serve({ fetch: route.fetch, port: 0, hostname: '127.0.0.1' });
  await once(server, 'listening');
  try {
    const { port } = server.address() as AddressInfo;
    const call = request({ port, path: '/' });
    call.end();
    const [response] = await once(call, 'response');
    response.pause();
    await sleep(500);
    // 500 events a page; what two sockets and two streams buffer is a few megabytes.
    assert.ok(statements < 20, `${statements} of 40 pages were read for nobody`);
    let bytes = 0;
    for await (const chunk of response) bytes += (chunk as Buffer).length;
    assert.ok(bytes > total * 900, `${bytes} bytes`);
    assert.ok(statements >= 40, 'the counter counts');
  } finally {
    server.close();
  }
});

test('the list shows the newest first, page by page', async () => {
  const { body } = await app.call('GET', '/admin/events?limit=3');
  v.parse(answers.listOf(answers.storedEvent), body);
  const ids = (data: { position: number }[]) => data.map((event) => event.position);
  assert.deepEqual(ids(body.data), [total, total - 1, total - 2]);
  const next = (await app.call('GET', `/admin/events?limit=3&cursor=${body.next}`)).body;
  assert.deepEqual(ids(next.data), [total - 3, total - 4, total - 5]);
  const between = (await app.call('GET', '/admin/events?after=5&before=8')).body;
  assert.deepEqual([ids(between.data), between.next], [[7, 6], null]);
  const rare = (await app.call('GET', '/admin/events?userIds=u499&limit=1')).body;
  assert.deepEqual([ids(rare.data), rare.next !== null], [[20_000], true]);
});
