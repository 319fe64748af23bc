/**
 * What should run is woken: by the append, by the last look of a lane that falls asleep, and by the sweep whatever
 * else got lost. An event is never left lying; a destination that stands never keeps the sweep from others.
 */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { openPool, type Sql } from '../../src/db/client.ts';
import { readLanes } from '../../src/events/read-slice.ts';
import { acceptedEvent, append } from '../support/accepted-events.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import {
  appendFor,
  createLiveFeed,
  type Feed,
  hold,
  keyOf,
  laneOfUser,
  startReplay,
} from '../support/feeds.ts';
import * as protocol from '../support/lane-protocol.ts';

let database: TestDatabase;
let sql: Sql;
let feed: Feed;
const user = 'ann';
const lane = laneOfUser(user);

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'delivery', { max: 8 });
  // A feed that starts before the first event ever is awake from the start.
  await appendFor(sql, user);
});
after(async () => {
  await sql.end();
  await database.drop();
});
beforeEach(async () => {
  // A feed of its own for each test: those of the earlier ones are over.
  await sql`update repeater.feeds set state = 'cancelled'`;
  await sql`delete from repeater.parked_users`;
  feed = await createLiveFeed(sql);
  await protocol.forgetJobs(sql);
});

const mine = (owner: string) => ({ feedId: feed.feedId, lane, owner });
const wake = async (session: Sql = sql) =>
  (await session<{ woken: number }[]>`select repeater.wake_lanes(${[lane]}::smallint[]) as woken`)[0]?.woken;
const sweep = async () => (await sql<{ woken: number }[]>`select repeater.sweep(null) as woken`)[0]?.woken;
const job = () => `${feed.feedId}:${lane}`;
const lastLook = (after: number) =>
  readLanes(
    sql,
    { feedId: feed.feedId, listed: false, upTo: null, condition: null },
    { lanes: [lane], after: [after], limit: 1 },
  );
/** A lane with a worker that has delivered everything. */
async function idleLane(): Promise<number> {
  const [position] = (await appendFor(sql, user)) as [number];
  await wake();
  const taken = (await protocol.takeLane(sql, mine('A'))) as protocol.TakenLane;
  await protocol.advanceLane(sql, { ...mine('A'), from: taken.cursor, to: position, delivered: 1 });
  await protocol.forgetJobs(sql);
  return position;
}

test('an append wakes a sleeping lane once, and leaves alone one that is awake', async () => {
  await appendFor(sql, user);
  assert.equal(await wake(), 1);
  assert.deepEqual(await protocol.waitingJobs(sql), [job()]);
  assert.equal(await wake(), 0);
});

test('falling asleep, then the append: the append wakes', async () => {
  const position = await idleLane();
  await protocol.releaseLane(sql, mine('A'), false);
  assert.deepEqual(await lastLook(position), []);
  await appendFor(sql, user);
  assert.equal(await wake(), 1);
  assert.deepEqual(await protocol.waitingJobs(sql), [job()]);
});

test('the append while falling asleep is not committed: the wake-up sees a lane awake, the last look sees the event', async () => {
  const position = await idleLane();
  const falling = await hold(sql);
  await protocol.releaseLane(falling.sql, mine('A'), false);
  const [event] = (await appendFor(sql, user)) as [number];
  assert.equal(await wake(), 0);
  await falling.commit();
  assert.deepEqual(
    (await lastLook(position)).map((each) => each.position),
    [event],
  );
});

test('falling asleep while the append is not committed: the last look sees nothing, the wake-up sees a lane asleep', async () => {
  const position = await idleLane();
  const appending = await hold(sql);
  await append(appending.sql, [acceptedEvent({ userId: user })]);
  await protocol.releaseLane(sql, mine('A'), false);
  assert.deepEqual(await lastLook(position), []);
  await appending.commit();
  assert.equal(await wake(), 1);
});

test('a wake-up that never came is made up for by the sweep', async () => {
  await appendFor(sql, user);
  assert.equal(await sweep(), 1);
  assert.deepEqual(await protocol.waitingJobs(sql), [job()]);
  assert.ok(await protocol.takeLane(sql, mine('A')));
});

test('the sweep wakes a lane whose lease has run out, and none that is held, asleep or of a feed that stands', async () => {
  await idleLane();
  await appendFor(sql, user);
  assert.equal(await sweep(), 0, 'its worker lives');
  await protocol.expireLeases(sql, 'A');
  assert.equal(await sweep(), 1);
  await protocol.forgetJobs(sql);
  await sql`update repeater.destinations set enabled = false where id = ${feed.destinationId}`;
  assert.equal(await sweep(), 0, 'disabled');
  assert.deepEqual(await protocol.waitingJobs(sql), []);
  await sql`update repeater.destinations set enabled = true where id = ${feed.destinationId}`;
  assert.equal(await sweep(), 1);
  const taken = (await protocol.takeLane(sql, mine('B'))) as protocol.TakenLane;
  const [last] = (await appendFor(sql, user)) as [number];
  await protocol.advanceLane(sql, { ...mine('B'), from: taken.cursor, to: last, delivered: 2 });
  await protocol.releaseLane(sql, mine('B'), false);
  assert.equal(await sweep(), 0, 'asleep, at the end of the log');
});

test('the sweep of the newest minutes finds what the sweep of the whole log finds', async () => {
  await appendFor(sql, user);
  const [row] = await sql<{ woken: number }[]>`select repeater.sweep('10 minutes') as woken`;
  assert.equal(row?.woken, 1);
});

test('two sweeps at once: one works, the other steps aside', async () => {
  await appendFor(sql, user);
  const sweeping = await hold(sql);
  await sweeping.sql`select repeater.sweep(null)`;
  assert.equal(await sweep(), null);
  await sweeping.commit();
});

test('the sweep wakes an overdue user nobody has, and not one that waits, is blocked or is held', async () => {
  await sql`
    insert into repeater.parked_users (feed_id, user_key, lane, from_position, state, next_attempt_at, lease_owner, lease_until)
    select ${feed.feedId}, key, ${lane}, 1, state, clock_timestamp() + late * interval '1 second', owner,
      clock_timestamp() + lease * interval '1 second'
    from (values ('u:overdue', 'retry', -5, null, null), ('u:orphan', 'retry', -5, 'dead', -1), ('u:early', 'retry', 60, null, null),
      ('u:blocked', 'blocked', -5, null, null), ('u:held', 'retry', -5, 'A', 60)) as v (key, state, late, owner, lease)`;
  assert.equal(await sweep(), 2);
  assert.deepEqual(await protocol.waitingJobs(sql), [`${feed.feedId}:u:orphan`, `${feed.feedId}:u:overdue`]);
});

test('a destination that stands with a thousand waiting users does not keep the sweep from the users of another', async () => {
  const standing = await createLiveFeed(sql);
  await sql`update repeater.destinations set paused_at = now() where id = ${standing.destinationId}`;
  await sql`
    insert into repeater.parked_users (feed_id, user_key, lane, from_position, next_attempt_at)
    select ${standing.feedId}, 'u:' || n, 0, 1, clock_timestamp() - interval '1 hour' from generate_series(1, 1100) n`;
  await sql`
    insert into repeater.parked_users (feed_id, user_key, lane, from_position, next_attempt_at)
    values (${feed.feedId}, ${keyOf(user)}, ${lane}, 1, clock_timestamp() - interval '1 minute')`;
  assert.equal(await sweep(), 1);
  assert.deepEqual(await protocol.waitingJobs(sql), [`${feed.feedId}:${keyOf(user)}`]);
});

test('the sweep wakes the lanes of a replay that are behind, and ends it when all have arrived', async () => {
  const [position] = (await appendFor(sql, user)) as [number];
  const replayId = await startReplay(sql, feed.destinationId, { selection: { fromPosition: position } });
  await protocol.forgetJobs(sql);
  await sql`update repeater.feed_lanes set cursor = ${position} where feed_id = ${feed.feedId}`;
  assert.equal(await sweep(), 1);
  assert.deepEqual(await protocol.waitingJobs(sql), [`${replayId}:${lane}`]);
  const replay = { feedId: replayId, lane, owner: 'A' };
  const taken = (await protocol.takeLane(sql, replay)) as protocol.TakenLane;
  const parks = [{ userKey: keyOf(user), position }];
  await protocol.advanceLane(sql, { ...replay, from: taken.cursor, to: position, parks });
  await protocol.releaseLane(sql, replay, false);
  const state = async () =>
    (await sql`select state from repeater.feeds where id = ${replayId}`)[0]?.['state'];
  await sweep();
  assert.equal(await state(), 'running', 'a user is still parked');
  const parked = { feedId: replayId, userKey: keyOf(user), owner: 'B' };
  assert.ok(await protocol.takeUser(sql, parked));
  await protocol.advanceUser(sql, parked, { next: position + 1, delivered: 1 });
  assert.equal(await protocol.unparkUser(sql, { ...parked, lane, seenCursor: position }), null);
  await sweep();
  assert.equal(await state(), 'completed');
});

test('the jobs of a worker that went silent are freed', async () => {
  await appendFor(sql, user);
  await wake();
  await sql`update graphile_worker._private_jobs set locked_by = 'dead-worker', locked_at = now()`;
  await sql`
    insert into repeater.workers (id, host, pid, graphile_ids, seen_at)
    values ('w', 'h', 1, '{dead-worker}', clock_timestamp() - interval '11 seconds')`;
  await sweep();
  const locked = await sql`select from graphile_worker._private_jobs where locked_by is not null`;
  assert.equal(locked.length, 0);
  assert.equal((await sql`select from repeater.workers`).length, 0);
});
