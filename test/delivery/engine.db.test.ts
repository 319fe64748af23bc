/**
 * The engine at the moments at which it could do harm: an answer of the database that comes late, a lane lost and
 * had back, a lane falling asleep, the end of a feed or of the process. Real engine, real jobs, real Postgres;
 * what must happen in between is staged with locks.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPool, type Sql } from '../../src/db/client.ts';
import { acceptedEvent, append } from '../support/accepted-events.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import {
  appendFor,
  createLiveFeed,
  type Feed,
  hold,
  keyOf,
  laneOfUser,
  neighbours,
  untilTrue,
} from '../support/feeds.ts';
import * as protocol from '../support/lane-protocol.ts';
import { type Proxy, startProxy } from '../support/proxy.ts';
import {
  delivered,
  failed,
  pending,
  scriptedType,
  startWorker,
  type TestWorker,
  type WorkerOptions,
} from '../support/worker.ts';
import type { Outcome } from '../../src/destinations/definition.ts';

let database: TestDatabase;
let sql: Sql;
let feed: Feed;
const workers: TestWorker[] = [];
const proxies: Proxy[] = [];
const [ann, bob, cid] = neighbours(3) as [string, string, string];
const lane = laneOfUser(ann);

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin', { max: 8 });
  // A feed that starts before the first event ever has all its lanes awake.
  await appendFor(sql, ann);
});
after(async () => {
  await sql.end();
  await database.drop();
});
beforeEach(async () => {
  feed = await createLiveFeed(sql, scriptedType);
});
afterEach(async () => {
  for (const worker of workers.splice(0)) await worker.stop();
  for (const proxy of proxies.splice(0)) await proxy.close();
  await sql`update repeater.feeds set state = 'cancelled', finished_at = now()`;
  await protocol.forgetJobs(sql);
});

async function start(options: WorkerOptions): Promise<TestWorker> {
  const worker = await startWorker(database.url, options);
  workers.push(worker);
  return worker;
}

const wake = (...lanes: readonly number[]) => sql`select repeater.wake_lanes(${[...lanes]}::smallint[])`;
const laneRow = async (of = lane) =>
  (
    await sql<{ cursor: number; owner: string | null; awake: boolean; above: number[] }[]>`
      select cursor, lease_owner as owner, awake, ended_above as above from repeater.feed_lanes
      where feed_id = ${feed.feedId} and lane = ${of}`
  )[0] as { cursor: number; owner: string | null; awake: boolean; above: number[] };
const usersOf = (worker: TestWorker) => worker.calls.map(({ event }) => event.userId);
/** A session of the engine waits for a lock in a statement that holds these words. */
const untilEngineWaits = (words: string) =>
  untilTrue(`the engine waits in ${words}`, async () => {
    const rows = await sql`
      select from pg_stat_activity
      where datname = current_database() and application_name = 'repeater delivery'
        and wait_event_type = 'Lock' and query like ${`%${words}%`}`;
    return rows.length > 0;
  });
const untilCursor = (position: number) =>
  untilTrue(`the cursor is at ${position}`, async () => (await laneRow()).cursor === position);

test('a lane lost and had back while a read is under way goes on from its cursor, not from where that read began', async () => {
  const first = pending<Outcome>();
  const worker = await start({
    script: ({ event }) => (event.userId === ann && worker.calls.length === 1 ? first.promise : delivered),
  });
  await appendFor(sql, ann, bob, bob);
  await wake(lane);
  await untilTrue('the other events have ended', async () => (await laneRow()).above.length === 2);
  const locking = await hold(sql);
  await locking.sql`lock table warehouse.events in access exclusive mode`;
  const last = await append(locking.sql, [acceptedEvent({ userId: cid })]);
  await untilEngineWaits('warehouse.events');

  await sql`update repeater.feed_lanes set lease_owner = 'thief' where feed_id = ${feed.feedId} and lane = ${lane}`;
  await untilTrue('the engine knows', () => worker.warnings.some((line) => line.includes('taken over')));
  await protocol.releaseLane(sql, { feedId: feed.feedId, lane, owner: 'thief' }, true);
  await untilTrue('the engine has it again', async () => (await laneRow()).owner !== null);
  await locking.commit();
  first.resolve(failed);
  await untilCursor(last);
  assert.deepEqual(usersOf(worker), [ann, bob, bob, ann, cid], 'the failed event was sent again');
});

for (const kind of ['lane', 'user'] as const) {
  test(`a worker that hears only after the lease has run out that it was given a ${kind} sends nothing of it`, async () => {
    const proxy = await startProxy(database.url);
    proxies.push(proxy);
    const worker = await start({ script: () => delivered, engineUrl: proxy.url });
    const [position] = (await appendFor(sql, ann)) as [number];
    const held = proxy.holdAnswerTo(`repeater.take_${kind}`);
    const thief = { feedId: feed.feedId, owner: 'thief' };
    if (kind === 'lane') await wake(lane);
    else {
      await sql`insert into repeater.parked_users (feed_id, user_key, lane, from_position)
        values (${feed.feedId}, ${keyOf(ann)}, ${lane}, ${position})`;
      await sql`select repeater.add_user_jobs(${[feed.feedId]}::integer[], ${[keyOf(ann)]}::text[])`;
    }
    const letGo = await held;
    await untilTrue('the lease is given', async () => {
      const rows = await sql`
        select from repeater.feed_lanes where feed_id = ${feed.feedId} and lease_owner is not null union all
        select from repeater.parked_users where feed_id = ${feed.feedId} and lease_owner is not null`;
      return rows.length === 1;
    });
    await untilTrue('the lease has run out and another worker has it', async () => {
      const taken =
        kind === 'lane'
          ? await protocol.takeLane(sql, { ...thief, lane })
          : await protocol.takeUser(sql, { ...thief, userKey: keyOf(ann) });
      return taken !== null;
    });
    letGo();

    const other = 'someone in another lane';
    await appendFor(sql, other);
    await wake(laneOfUser(other));
    await untilTrue('the engine works on', () => worker.calls.length >= 1);
    await untilTrue('and sleeps', async () => !(await laneRow(laneOfUser(other))).awake);
    assert.deepEqual(usersOf(worker), [other]);
  });
}

test('a worker whose writes failed until it had lost its lanes records again what it does with the next ones', async () => {
  const worker = await start({ script: () => delivered });
  await sql`alter function repeater.advance_lanes rename to advance_lanes_away`;
  const [first] = (await appendFor(sql, ann)) as [number];
  await wake(lane);
  await untilTrue('a write has failed', () => worker.warnings.some((line) => line.includes('recording')));
  await sql`update repeater.feed_lanes set lease_owner = 'thief' where feed_id = ${feed.feedId} and lane = ${lane}`;
  await untilTrue('the engine knows', () => worker.warnings.some((line) => line.includes('taken over')));
  // Longer than between two tries: one of them finds nothing left to write, which no one can see.
  await sleep(1_100);
  await sql`alter function repeater.advance_lanes_away rename to advance_lanes`;
  await protocol.releaseLane(sql, { feedId: feed.feedId, lane, owner: 'thief' }, true);
  await untilCursor(first);
});

test('an event that is appended while its lane falls asleep is found by the last look', async () => {
  const worker = await start({ script: () => delivered });
  const [position] = (await appendFor(sql, ann)) as [number];
  await wake(lane);
  await untilCursor(position);
  const locking = await hold(sql);
  await locking.sql`select from repeater.feed_lanes where feed_id = ${feed.feedId} and lane = ${lane} for no key update`;
  await untilEngineWaits('release_lanes');
  await appendFor(sql, bob);
  await wake(lane);
  await locking.commit();
  await untilTrue('it is delivered without any other help', () => worker.calls.length === 2);
});

test('who was told to come back later is not tried before, though the destination is failing and others are probed', async () => {
  const users = Array.from({ length: 60 }, (_, index) => `user ${index}`);
  let isFailing = true;
  let throttled: string | null = null;
  const worker = await start({
    script({ event: { userId } }) {
      if (isFailing) return failed;
      // The first failures parked their users, before the circuit opened; a later one is probed from its lane.
      if (!usersOf(worker).slice(0, 10).includes(userId)) throttled ??= userId;
      return userId === throttled ? { ...failed, status: 429, retryAfterMs: 30_000 } : delivered;
    },
  });
  await appendFor(sql, ...users);
  await wake(...new Set(users.map(laneOfUser)));
  await untilTrue('the circuit opens', () => worker.calls.length >= 10);
  isFailing = false;
  const ended = () =>
    new Set(worker.calls.filter(({ outcome }) => outcome === delivered).map(({ event }) => event.userId));
  await untilTrue('all others are delivered', () => ended().size === users.length - 1, 30_000);
  const tries = worker.calls.filter(({ event, outcome }) => event.userId === throttled && outcome !== failed);
  assert.equal(tries.length, 1);
});

test('a call that outlasts a pause keeps its lane, so that nobody sends the event or a later one beside it', async () => {
  const long = pending<Outcome>();
  const worker = await start({ script: () => long.promise, drainMs: 100 });
  const [position] = (await appendFor(sql, ann, ann)) as [number];
  await wake(lane);
  await untilTrue('the call is under way', () => worker.calls.length === 1);
  await sql`update repeater.destinations set enabled = false where id = ${feed.destinationId}`;
  const beat = async () =>
    (
      await sql`select lease_until as at from repeater.feed_lanes where feed_id = ${feed.feedId} and lane = ${lane}`
    )[0]?.['at'];
  for (let beats = 0, last = await beat(); beats < 3; last = await beat()) {
    await untilTrue('the lease is renewed', async () => (await beat()) !== last);
    beats++;
  }
  assert.notEqual((await laneRow()).owner, null);
  long.resolve(delivered);
  await untilTrue('the lane is let go', async () => (await laneRow()).owner === null);
  assert.deepEqual([(await laneRow()).cursor, worker.calls.length], [position, 1]);
});

test('a call that outlasts the end of the process is given up before its lane is let go', async () => {
  const long = pending<Outcome>();
  const ownerAtAbort = pending<string | null>();
  const worker = await start({
    script: ({ signal }) => {
      signal.addEventListener('abort', () => {
        ownerAtAbort.resolve(laneRow().then((row) => row.owner));
        long.resolve(failed);
      });
      return long.promise;
    },
    drainMs: 100,
  });
  await appendFor(sql, ann);
  await wake(lane);
  await untilTrue('the call is under way', () => worker.calls.length === 1);
  await worker.stop();
  assert.notEqual(await ownerAtAbort.promise, null, 'the lane was still held when the call was given up');
  assert.equal((await laneRow()).owner, null);
});

test('a worker that ends in order records all it has delivered, also where a user was just handed back', async () => {
  const last = pending<Outcome>();
  const worker = await start({
    script: ({ event }) =>
      event.userId === ann
        ? { ...failed, retryAfterMs: 60_000 }
        : event.userId === bob
          ? last.promise
          : delivered,
  });
  const [, skipped, other] = (await appendFor(sql, ann, ann, bob, cid)) as [number, number, number];
  await wake(lane);
  await untilTrue('bob is under way', () => worker.calls.length === 3);
  await untilTrue(
    'ann is parked',
    async () => (await sql`select from repeater.parked_users where feed_id = ${feed.feedId}`).length === 1,
  );
  await untilTrue('her event is passed', async () => (await laneRow()).cursor === skipped);
  await appendFor(sql, ann, cid);
  const user = { feedId: feed.feedId, userKey: keyOf(ann), owner: 'other' };
  await sql`update repeater.parked_users set next_attempt_at = clock_timestamp() where feed_id = ${feed.feedId}`;
  assert.ok(await protocol.takeUser(sql, user));
  await protocol.advanceUser(sql, user, { next: skipped + 1, delivered: 2 });
  await untilTrue(
    'the engine has read on',
    () => usersOf(worker).filter((each) => each === cid).length === 2,
  );
  assert.equal(await protocol.unparkUser(sql, { ...user, lane, seenCursor: skipped }), null);
  const stopping = worker.stop();
  last.resolve(delivered);
  await stopping;
  const row = await laneRow();
  assert.deepEqual([row.cursor, row.above], [other + 1, [other + 3]]);
  assert.equal(row.owner, null);
});
