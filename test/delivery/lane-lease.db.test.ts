/**
 * Who has a lane: one worker at a time, and one that has lost it writes nothing more. Races are staged with held
 * transactions over the real statements of migrations/0002_delivery.sql.
 */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import {
  appendFor,
  createLiveFeed,
  hold,
  keyOf,
  laneOfUser,
  neighbours,
  untilBlocked,
} from '../support/feeds.ts';
import * as protocol from '../support/lane-protocol.ts';

let database: TestDatabase;
let sql: Sql;
let feedId: number;
/** Positions of three events of three users of one lane. */
let positions: number[];
const users = neighbours(3) as [string, string, string];
const lane = laneOfUser(users[0]);

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'delivery', { max: 8 });
});
after(async () => {
  await sql.end();
  await database.drop();
});
beforeEach(async () => {
  ({ feedId } = await createLiveFeed(sql));
  positions = await appendFor(sql, ...users);
  await sql`select repeater.wake_lanes(${[lane]}::smallint[])`;
});

const mine = (owner: string) => ({ feedId, lane, owner });
const laneRow = async () =>
  (await sql`select * from repeater.feed_lanes where feed_id = ${feedId} and lane = ${lane}`)[0];
const parkedKeys = async () =>
  (
    await sql<
      { key: string }[]
    >`select user_key as key from repeater.parked_users where feed_id = ${feedId} order by 1`
  ).map((row) => row.key);
/** Nothing was delivered yet: the cursor before the three events. */
const start = async () => Number((await laneRow())?.['cursor']);

test('of two workers that take a lane at once, one gets it; a third while it holds gets nothing', async () => {
  const first = await hold(sql);
  const second = await hold(sql);
  assert.ok(await protocol.takeLane(first.sql, mine('A')));
  const later = protocol.takeLane(second.sql, mine('B'));
  await untilBlocked(sql, second.pid);
  await first.commit();
  assert.equal(await later, null);
  await second.commit();
  assert.equal(await protocol.takeLane(sql, mine('C')), null);
  assert.equal((await laneRow())?.['lease_owner'], 'A');
});

test('a worker whose taking was rolled back leaves the lane to the one that waits', async () => {
  const first = await hold(sql);
  const second = await hold(sql);
  assert.ok(await protocol.takeLane(first.sql, mine('A')));
  const later = protocol.takeLane(second.sql, mine('B'));
  await untilBlocked(sql, second.pid);
  await first.rollback();
  assert.ok(await later);
  await second.commit();
  assert.equal((await laneRow())?.['lease_owner'], 'B');
});

test('a sleeping lane, a paused destination and an unknown feed are not given out', async () => {
  await sql`update repeater.feed_lanes set awake = false where feed_id = ${feedId}`;
  assert.equal(await protocol.takeLane(sql, mine('A')), null);
  await sql`update repeater.feed_lanes set awake = true where feed_id = ${feedId}`;
  await sql`update repeater.destinations set paused_at = now() where id = (select destination_id from repeater.feeds where id = ${feedId})`;
  assert.equal(await protocol.takeLane(sql, mine('A')), null);
  assert.equal(await protocol.takeLane(sql, { ...mine('A'), feedId: 999_999 }), null);
});

test('moved: cursor, ended positions, parked users, dead letters and counts in one go, the lease renewed', async () => {
  const from = await start();
  await protocol.takeLane(sql, mine('A'));
  await sql`update repeater.feed_lanes set lease_until = clock_timestamp() + interval '1 second' where feed_id = ${feedId}`;
  const [first, second, third] = positions as [number, number, number];
  const answer = await protocol.advanceLane(sql, {
    ...mine('A'),
    from,
    to: second,
    endedAbove: [third],
    delivered: 1,
    parks: [{ userKey: keyOf(users[0]), position: first }],
    deads: [{ position: second, userKey: keyOf(users[1]) }],
  });
  assert.deepEqual(answer, { result: 'moved', version: 0, waiting: null });
  const row = await laneRow();
  assert.deepEqual(
    [row?.['cursor'], row?.['ended_above'], row?.['delivered'], row?.['dead']],
    [second, [third], 1, 1],
  );
  assert.ok(Date.parse(String(row?.['lease_until'])) > Date.now() + 60_000, 'the lease was renewed');
  assert.deepEqual(await parkedKeys(), [keyOf(users[0])]);
  const deads = await sql`select position from repeater.dead_letters where feed_id = ${feedId}`;
  assert.deepEqual(
    deads.map((each) => each['position']),
    [second],
  );
  assert.ok(
    (await protocol.waitingJobs(sql)).includes(`${feedId}:${keyOf(users[0])}`),
    'the retry has its job',
  );
});

test('lost: after a take-over the old owner moves, parks, gives up, renews and releases nothing', async () => {
  const from = await start();
  await protocol.takeLane(sql, mine('A'));
  await protocol.expireLeases(sql, 'A');
  assert.ok(await protocol.takeLane(sql, mine('B')));
  const before = await laneRow();
  const [first] = positions as [number];
  const answer = await protocol.advanceLane(sql, {
    ...mine('A'),
    from,
    to: first,
    delivered: 1,
    parks: [{ userKey: keyOf(users[1]), position: first }],
    deads: [{ position: first, userKey: keyOf(users[0]) }],
  });
  assert.equal(answer.result, 'lost');
  await protocol.releaseLane(sql, mine('A'), false);
  assert.equal(await protocol.renew(sql, mine('A')), false);
  assert.deepEqual(await laneRow(), before);
  assert.deepEqual(await parkedKeys(), []);
  assert.equal((await sql`select from repeater.dead_letters where feed_id = ${feedId}`).length, 0);
});

test('a report that comes again because its answer was lost is written once, and answered as it was', async () => {
  const from = await start();
  const [first, second] = positions as [number, number];
  await protocol.takeLane(sql, mine('A'));
  const report = {
    ...mine('A'),
    revision: 0,
    from,
    to: from,
    endedAbove: [second],
    delivered: 1,
    parks: [{ userKey: keyOf(users[0]), position: first }],
  };
  assert.equal((await protocol.advanceLane(sql, report)).result, 'moved');
  await sql`delete from repeater.parked_users where feed_id = ${feedId}`;
  const again = await protocol.advanceLane(sql, report);
  assert.equal(again.result, 'moved');
  const row = await laneRow();
  assert.deepEqual([row?.['cursor'], row?.['delivered'], row?.['revision']], [from, 1, 1]);
  assert.deepEqual(await parkedKeys(), [], 'a user that was handed back meanwhile is not parked again');
});

test('lost: a report that starts from another cursor or an older revision than the stored one is not written', async () => {
  const from = await start();
  const [first, second] = positions as [number, number];
  await protocol.takeLane(sql, mine('A'));
  assert.equal(
    (await protocol.advanceLane(sql, { ...mine('A'), from, to: first, delivered: 1 })).result,
    'moved',
  );
  assert.equal(
    (await protocol.advanceLane(sql, { ...mine('A'), from, to: second, delivered: 2 })).result,
    'lost',
  );
  const next = { ...mine('A'), from: first, to: second, delivered: 1 };
  assert.equal((await protocol.advanceLane(sql, { ...next, revision: 2 })).result, 'lost');
  assert.deepEqual([(await laneRow())?.['cursor'], (await laneRow())?.['delivered']], [first, 1]);
});

test('a report that runs into a take-over waits for it and is lost', async () => {
  const from = await start();
  await protocol.takeLane(sql, mine('A'));
  await protocol.expireLeases(sql, 'A');
  const taking = await hold(sql);
  const reporting = await hold(sql);
  assert.ok(await protocol.takeLane(taking.sql, mine('B')));
  const report = protocol.advanceLane(reporting.sql, { ...mine('A'), from, to: positions[0] as number });
  await untilBlocked(sql, reporting.pid);
  await taking.commit();
  assert.equal((await report).result, 'lost');
  await reporting.commit();
});

test('a take-over that runs into a late renewal gets nothing: the owner is alive', async () => {
  await protocol.takeLane(sql, mine('A'));
  await protocol.expireLeases(sql, 'A');
  const renewing = await hold(sql);
  const taking = await hold(sql);
  assert.equal(await protocol.renew(renewing.sql, mine('A')), true);
  const taken = protocol.takeLane(taking.sql, mine('B'));
  await untilBlocked(sql, taking.pid);
  await renewing.commit();
  assert.equal(await taken, null);
  await taking.commit();
});

test('a worker that waited for its predecessor to park a user and let go knows of that user', async () => {
  const from = await start();
  const [first, second] = positions as [number, number];
  await protocol.takeLane(sql, mine('A'));
  await protocol.expireLeases(sql, 'A');
  const leaving = await hold(sql);
  const taking = await hold(sql);
  await protocol.advanceLane(leaving.sql, {
    ...mine('A'),
    from,
    to: second,
    delivered: 1,
    parks: [{ userKey: keyOf(users[0]), position: first }],
  });
  await protocol.releaseLane(leaving.sql, mine('A'), true);
  const taken = protocol.takeLane(taking.sql, mine('B'));
  await untilBlocked(sql, taking.pid);
  await leaving.commit();
  assert.deepEqual(await taken, {
    cursor: second,
    endedAbove: [],
    parkedVersion: 0,
    revision: 1,
    waiting: [keyOf(users[0])],
  });
  await taking.commit();
});
