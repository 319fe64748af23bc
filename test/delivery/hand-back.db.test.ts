/**
 * A parked user's events belong to whoever has the user, until they are handed back to the lane. At the two moments
 * at which lane and user must agree, the one that comes second sees what the first one did: no event is sent by
 * both, none by nobody. Staged with held transactions.
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
/** Position of the parked user's failed event; the cursor stands at it. */
let failed: number;
const [ill, healthy] = neighbours(2) as [string, string];
const lane = laneOfUser(ill);

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'delivery', { max: 8 });
});
after(async () => {
  await sql.end();
  await database.drop();
});
/** A lane whose worker L has just parked a user; worker U has taken the user and delivered the failed event. */
beforeEach(async () => {
  ({ feedId } = await createLiveFeed(sql));
  [failed] = (await appendFor(sql, ill)) as [number];
  await sql`select repeater.wake_lanes(${[lane]}::smallint[])`;
  const { cursor } = (await protocol.takeLane(sql, laneOf('L'))) as protocol.TakenLane;
  const parks = [{ userKey: keyOf(ill), position: failed }];
  await protocol.advanceLane(sql, { ...laneOf('L'), from: cursor, to: failed, parks });
  assert.deepEqual(await protocol.takeUser(sql, user('U')), { lane, from: failed, attempts: 1 });
  assert.equal(await protocol.advanceUser(sql, user('U'), { next: failed + 1, delivered: 1 }), true);
});

const laneOf = (owner: string) => ({ feedId, lane, owner });
const user = (owner: string) => ({ feedId, userKey: keyOf(ill), owner });
const handBack = (session: Parameters<typeof protocol.unparkUser>[0], seenCursor: number) =>
  protocol.unparkUser(session, { ...user('U'), lane, seenCursor });
const isParked = async () =>
  (await sql`select from repeater.parked_users where feed_id = ${feedId}`).length === 1;
const cursorNow = async () =>
  (await sql`select cursor from repeater.feed_lanes where feed_id = ${feedId} and lane = ${lane}`)[0]?.[
    'cursor'
  ];

test('a user whose events have ended up to the cursor goes back, and the lane hears of it with its next report', async () => {
  assert.equal(await handBack(sql, failed), null);
  assert.equal(await isParked(), false);
  const [next] = (await appendFor(sql, healthy)) as [number];
  const answer = await protocol.advanceLane(sql, { ...laneOf('L'), from: failed, to: next, delivered: 1 });
  assert.deepEqual(answer, { result: 'moved', version: 1, waiting: [] });
});

test('unparked: a lane that would pass events of a user handed back just before writes nothing and takes them back', async () => {
  const [skipped, other] = (await appendFor(sql, ill, healthy)) as [number, number];
  const returning = await hold(sql);
  const reporting = await hold(sql);
  assert.equal(await handBack(returning.sql, failed), null);
  const report = protocol.advanceLane(reporting.sql, {
    ...laneOf('L'),
    from: failed,
    to: other,
    delivered: 1,
    skippedUsers: [keyOf(ill)],
    parks: [{ userKey: keyOf(healthy), position: other }],
    deads: [{ position: other, userKey: keyOf(healthy) }],
  });
  await untilBlocked(sql, reporting.pid);
  await returning.commit();
  assert.deepEqual(await report, { result: 'unparked', version: 1, waiting: [] });
  await reporting.commit();
  assert.equal(await cursorNow(), failed, `position ${skipped} was not passed`);
  assert.equal(await isParked(), false, 'nothing of the report was written');
  assert.equal((await sql`select from repeater.dead_letters where feed_id = ${feedId}`).length, 0);
});

test('moved: a lane that passed them just before keeps the user parked, and the worker goes on to the new cursor', async () => {
  const [skipped] = (await appendFor(sql, ill)) as [number];
  const reporting = await hold(sql);
  const returning = await hold(sql);
  const report = { ...laneOf('L'), from: failed, to: skipped, skippedUsers: [keyOf(ill)] };
  assert.equal((await protocol.advanceLane(reporting.sql, report)).result, 'moved');
  const handed = handBack(returning.sql, failed);
  await untilBlocked(sql, returning.pid);
  await reporting.commit();
  assert.equal(await handed, skipped, 'there is more to deliver, up to the new cursor');
  await returning.commit();
  assert.equal(await isParked(), true);
  assert.equal(await protocol.advanceUser(sql, user('U'), { next: skipped + 1, delivered: 1 }), true);
  assert.equal(await handBack(sql, skipped), null);
  assert.equal(await isParked(), false);
});

test('a lane taken over while a user is handed back learns who is still parked only after that', async () => {
  await protocol.expireLeases(sql, 'L');
  const returning = await hold(sql);
  const taking = await hold(sql);
  assert.equal(await handBack(returning.sql, failed), null);
  const taken = protocol.takeLane(taking.sql, laneOf('M'));
  await untilBlocked(sql, taking.pid);
  await returning.commit();
  assert.deepEqual(await taken, {
    cursor: failed,
    endedAbove: [],
    parkedVersion: 1,
    revision: 1,
    waiting: [],
  });
  await taking.commit();
});

test('a worker that has lost the user hands nothing back, records nothing and is not renewed', async () => {
  await protocol.expireLeases(sql, 'U');
  assert.ok(await protocol.takeUser(sql, user('V')));
  assert.equal(await handBack(sql, failed), null);
  assert.equal(await protocol.advanceUser(sql, user('U'), { next: failed + 5, delivered: 4 }), false);
  assert.equal(await protocol.renew(sql, user('U')), false);
  const [row] = await sql`
    select p.lease_owner as owner, p.from_position as next, l.delivered
    from repeater.parked_users p join repeater.feed_lanes l on l.feed_id = p.feed_id and l.lane = p.lane
    where p.feed_id = ${feedId}`;
  assert.deepEqual({ ...row }, { owner: 'V', next: failed + 1, delivered: 1 });
});

test('of two workers that take a user at once one gets it; a failure lets it go for the next attempt', async () => {
  const release = { next: failed + 1, failed: { attempts: 2 } };
  assert.equal(await protocol.advanceUser(sql, user('U'), release), true);
  const first = await hold(sql);
  const second = await hold(sql);
  assert.ok(await protocol.takeUser(first.sql, user('V')));
  const later = protocol.takeUser(second.sql, user('W'));
  await untilBlocked(sql, second.pid);
  await first.commit();
  assert.equal(await later, null);
  await second.commit();
});

test('a user is not given out before its time, nor while it stands blocked', async () => {
  await protocol.advanceUser(sql, user('U'), { next: failed + 1, failed: { attempts: 2 } });
  await sql`update repeater.parked_users set next_attempt_at = clock_timestamp() + interval '1 minute' where feed_id = ${feedId}`;
  assert.equal(await protocol.takeUser(sql, user('V')), null);
  await sql`update repeater.parked_users set next_attempt_at = clock_timestamp(), state = 'blocked' where feed_id = ${feedId}`;
  assert.equal(await protocol.takeUser(sql, user('V')), null);
  await sql`update repeater.parked_users set state = 'retry' where feed_id = ${feedId}`;
  assert.ok(await protocol.takeUser(sql, user('V')));
});
