import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as v from 'valibot';
import * as answers from '../../src/admin/answers.ts';
import { laneOf, userKeyOf } from '../../src/lib/ids.ts';
import { acceptedEvent, append } from '../support/accepted-events.ts';
import { type AdminApp, createAdminApp } from '../support/admin-app.ts';

let app: AdminApp;
before(async () => {
  app = await createAdminApp();
  await app.call('POST', '/admin/sources', { name: 'web' });
  await app.call('POST', '/admin/destinations', {
    type: 'probe',
    name: 'x',
    settings: { url: 'https://vendor.example' },
  });
});
after(async () => app.close());

const status = async () => {
  const { status, body } = await app.call('GET', '/admin/destinations/dst_1/status');
  assert.equal(status, 200, JSON.stringify(body));
  v.parse(answers.destinationStatus, body);
  return body;
};
const lane = (user: string) => laneOf(userKeyOf(user, null));
const [first, second] = ['u1', 'u2'];

test('an empty log: nothing waits', async () => {
  const { feeds, ...rest } = await status();
  assert.deepEqual(rest, { destinationId: 'dst_1', state: 'active', pausedReason: null });
  assert.equal(feeds.length, 1);
  assert.deepEqual(
    [feeds[0].kind, feeds[0].head, feeds[0].cursor, feeds[0].lagEvents, feeds[0].lagSeconds],
    ['live', 0, 0, 0, 0],
  );
});

test('head, low-water mark and lag follow the lanes; ended events above a cursor do not wait', async () => {
  assert.notEqual(lane(first), lane(second));
  // Positions 1 to 6: u1 has the odd, u2 the even.
  await append(
    app.sql,
    Array.from({ length: 6 }, (_, index) => acceptedEvent({ userId: index % 2 ? second : first })),
  );
  let [feed] = (await status()).feeds;
  assert.deepEqual([feed.head, feed.cursor, feed.lagEvents], [6, 0, 6]);
  assert.ok(feed.lagSeconds > 0 && feed.lagSeconds < 60);

  await app.sql`update repeater.feed_lanes set cursor = 3, delivered = 2 where feed_id = 1 and lane = ${lane(first)}`;
  await app.sql`update repeater.feed_lanes set ended_above = '{4}', delivered = 1 where feed_id = 1 and lane = ${lane(second)}`;
  [feed] = (await status()).feeds;
  assert.deepEqual([feed.cursor, feed.lagEvents, feed.delivered], [1, 3, 3]);

  await app.sql`update repeater.feed_lanes set cursor = 6, ended_above = '{}' where feed_id = 1 and lane = ${lane(second)}`;
  await app.sql`
    insert into repeater.parked_users (feed_id, user_key, lane, from_position, attempts, last_error, last_status)
    values (1, 'u:u2', ${lane(second)}, 6, 3, 'the server answered 503', 503)`;
  [feed] = (await status()).feeds;
  assert.deepEqual([feed.cursor, feed.lagEvents, feed.parkedUsers], [4, 1, 1]);

  await app.sql`update repeater.feed_lanes set cursor = 5 where feed_id = 1 and lane = ${lane(first)}`;
  [feed] = (await status()).feeds;
  assert.deepEqual([feed.head, feed.cursor, feed.lagEvents, feed.lagSeconds], [6, 6, 0, 0]);
});

test('replays show their own bounds and end with their counters', async () => {
  const { id } = (
    await app.call('POST', '/admin/replays', { destinationId: 'dst_1', selection: { toPosition: 4 } })
  ).body;
  let [, feed] = (await status()).feeds;
  assert.deepEqual(
    [feed.kind, feed.replayId, feed.head, feed.cursor, feed.lagEvents],
    ['replay', id, 4, 0, 4],
  );
  await app.sql`update repeater.feed_lanes set delivered = 2 where feed_id = ${feed.feedId} and lane in (${lane(first)}, ${lane(second)})`;
  [, feed] = (await status()).feeds;
  assert.deepEqual([feed.cursor, feed.lagEvents, feed.lagSeconds, feed.delivered], [4, 0, 0, 4]);
  await app.call('POST', `/admin/replays/${id}/cancel`);
  assert.equal((await status()).feeds.length, 1);
});

test('parked users and dead letters are listed with their events and reasons, by destination and replay', async () => {
  const parked = (await app.call('GET', '/admin/parked-users?destinationId=dst_1')).body;
  v.parse(answers.listOf(answers.parkedUser), parked);
  const { nextAttemptAt: _, parkedAt: __, ...user } = parked.data[0];
  assert.deepEqual(user, {
    destinationId: 'dst_1',
    replayId: null,
    userKey: 'u:u2',
    userId: 'u2',
    anonymousId: null,
    position: 6,
    attempts: 3,
    state: 'retry',
    lastError: 'the server answered 503',
    lastStatus: 503,
  });
  for (const position of [1, 3, 5]) {
    await app.sql`
      insert into repeater.dead_letters (feed_id, position, destination_id, lane, user_key, error, attempts, status, response)
      values (${position === 5 ? 2 : 1}, ${position}, 1, ${lane(first)}, 'u:u1', 'refused', 1, 400, '{"no":1}')`;
  }
  const letters = (await app.call('GET', '/admin/dead-letters?destinationId=dst_1&limit=2')).body;
  v.parse(answers.listOf(answers.deadLetter), letters);
  const { createdAt: ___, messageId, ...letter } = letters.data[1];
  assert.match(messageId, /^message-/);
  assert.deepEqual(letter, {
    position: 3,
    destinationId: 'dst_1',
    replayId: null,
    userKey: 'u:u1',
    userId: 'u1',
    anonymousId: null,
    type: 'track',
    event: 'Tested',
    status: 400,
    error: 'refused',
    response: '{"no":1}',
    attempts: 1,
  });
  assert.equal(letters.data[0].replayId, 'rpl_2');
  const rest = (
    await app.call('GET', `/admin/dead-letters?destinationId=dst_1&limit=2&cursor=${letters.next}`)
  ).body;
  assert.deepEqual([rest.data.map((each: { position: number }) => each.position), rest.next], [[1], null]);
  assert.equal((await app.call('GET', '/admin/dead-letters?replayId=rpl_2')).body.data.length, 1);
  for (const query of ['destinationId=dst_2', "destinationId=1'--", 'replayId=rpl_9']) {
    assert.deepEqual((await app.call('GET', `/admin/dead-letters?${encodeURI(query)}`)).body.data, [], query);
    assert.deepEqual((await app.call('GET', `/admin/parked-users?${encodeURI(query)}`)).body.data, [], query);
  }
});
