/**
 * @segment/analytics-node, unmodified and with nothing set but host and write key, against the real program: what it
 * sends is what is stored, value by value, and what it sends again because an answer was lost is stored once.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Analytics } from '@segment/analytics-node';
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { type HttpProxy, type Json, startHttpProxy } from '../support/http-proxy.ts';
import { type RepeaterProcess, startRepeater, writeKey } from '../support/process.ts';

let database: TestDatabase;
let sql: Sql;
let repeater: RepeaterProcess;
let proxy: HttpProxy;

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin');
  repeater = await startRepeater({ DATABASE_URL: database.url });
  proxy = await startHttpProxy(repeater.address);
});

after(async () => {
  await proxy.close();
  await repeater.kill('SIGTERM');
  await sql.end();
  await database.drop();
});

function createAnalytics(): Analytics {
  const analytics = new Analytics({ host: proxy.url, writeKey });
  analytics.on('error', (error) => assert.fail(JSON.stringify(error)));
  return analytics;
}

/** What is stored of a user's events, in the order of acceptance. */
async function stored(userKey: string) {
  const rows = await sql<{ type: string; event: string | null; marks: string[] | null; text: string }[]>`
    select type, event, marks, payload::text as text from warehouse.events
    where user_key = ${userKey} order by id`;
  return rows.map(({ text, ...row }) => ({ ...row, payload: JSON.parse(text) as Json }));
}

/** Values that have broken collectors. */
const awkward: Json = {
  'empty text': '',
  '': 'the empty name',
  'dots.and "quotes" \\ and $signs': true,
  'größe 日本 👩‍👩‍👧': 'e\u0301 \u202e مرحبا',
  lines: 'one\ntwo\r\n\ttab \u001b[31m',
  sql: "'); drop table warehouse.events; --",
  nothing: null,
  numbers: [0, -1, 0.1, 1e-300, 1.7976931348623157e308, 2 ** 53, -2_147_483_649],
  'no number': [NaN, Infinity],
  date: new Date('2024-02-29T23:59:59.999Z'),
  undefined: undefined,
  nested: { list: [[], {}, [{ deep: [[['x']]] }]] },
  constructor: 'not inherited',
  toString: 1,
  hasOwnProperty: false,
  ...JSON.parse('{"own":{"__proto__":{"polluted":true},"prototype":1}}'),
  long: 'x'.repeat(20_000),
};

test('all six calls arrive as sent, with awkward values', async () => {
  const analytics = createAnalytics();
  const userId = 'user with spaces/ünïcode';
  analytics.identify({ userId, traits: awkward });
  analytics.track({ userId, event: '  Order "Completed" \n', properties: awkward });
  analytics.page({ userId, category: 'Docs', name: 'Home', properties: awkward });
  analytics.screen({ userId, name: 'Über uns', properties: awkward });
  analytics.group({ userId, groupId: '0', traits: awkward });
  analytics.alias({ userId, previousId: 'before' });
  analytics.track({
    userId,
    event: 'Back then',
    timestamp: new Date('2001-09-09T01:46:40.000Z'),
    context: { ip: '::1', locale: 'de-CH', page: { url: 'https://example.com/?q=1#x' } },
    integrations: { All: false, Mixpanel: { 'deep setting': true } },
  });
  await analytics.closeAndFlush();

  const sent = proxy.passed.flatMap(({ events }) => events);
  const kept = await stored(`u:${userId}`);
  assert.equal(sent.length, 7);
  assert.deepEqual(
    kept.map(({ type, event }) => [type, event]),
    [
      ['identify', null],
      ['track', '  Order "Completed" \n'],
      ['page', null],
      ['screen', null],
      ['group', null],
      ['alias', null],
      ['track', 'Back then'],
    ],
  );
  assert.deepEqual(
    kept.map(({ payload }) => payload),
    sent,
  );
  // The comparison would be worth nothing if the SDK or the test had lost them on the way.
  const properties = kept[1]?.payload['properties'] as Json;
  assert.equal(Object.keys(properties).length, Object.keys(awkward).length - 1);
  assert.deepEqual(Object.keys(properties['own'] as Json), ['__proto__', 'prototype']);
  assert.ok(kept.every(({ marks }) => marks === null));
});

test('an anonymous user is known by the anonymous id, and time zones keep the instant', async () => {
  const analytics = createAnalytics();
  const timestamp = new Date(Date.now() - 3_600_000);
  analytics.track({ anonymousId: 'anon-1', event: 'Seen', timestamp });
  await analytics.closeAndFlush();
  const [row] = await sql<{ userId: string | null; anonymousId: string; ms: number }[]>`
    select user_id as "userId", anonymous_id as "anonymousId", extract(epoch from timestamp)::float8 * 1000 as ms
    from warehouse.events where anonymous_id = 'anon-1'`;
  assert.deepEqual([row?.userId, row?.anonymousId], [null, 'anon-1']);
  // The SDK's clock is ours, so the correction for skew is what the way took.
  assert.ok(Math.abs((row?.ms ?? 0) - timestamp.getTime()) < 5_000, String(row?.ms));
});

test('characters that PostgreSQL cannot store are replaced, marked, and harm no neighbour', async () => {
  const analytics = createAnalytics();
  const users = ['before', 'nul', 'after'];
  const texts = ['fine', 'a\u0000b \ud800 c', 'fine too'];
  users.forEach((userId, index) =>
    analytics.track({ userId, event: 'Said', properties: { text: texts[index] } }),
  );
  await analytics.closeAndFlush();
  const kept = (await Promise.all(users.map((user) => stored(`u:${user}`)))).flat();
  assert.deepEqual(
    kept.map(({ payload, marks }) => [(payload['properties'] as Json)['text'], marks]),
    [
      ['fine', null],
      ['a\ufffdb \ufffd c', ['replaced_characters']],
      ['fine too', null],
    ],
  );
});

test('what the SDK sends again because the answer was lost is stored once', async () => {
  const passed = proxy.passed.length;
  proxy.accidents = ['lose', 'lose'];
  const analytics = createAnalytics();
  for (let seq = 0; seq < 40; seq++)
    analytics.track({ userId: 'again', event: 'Counted', properties: { seq } });
  await analytics.closeAndFlush();

  const sent = proxy.passed.slice(passed).flatMap(({ events }) => events);
  const ids = new Set(sent.map(({ messageId }) => messageId));
  assert.equal(ids.size, 40);
  assert.ok(sent.length > 40, `${sent.length} events reached the program`);
  const kept = await stored('u:again');
  assert.deepEqual(
    kept
      .map(({ payload }) => (payload['properties'] as Json)['seq'])
      .toSorted((a, b) => Number(a) - Number(b)),
    Array.from({ length: 40 }, (_, seq) => seq),
  );
});
