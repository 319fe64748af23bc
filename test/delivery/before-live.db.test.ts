/**
 * A before-live replay and its destination's live feed are never under way at the same time: while one has a lease,
 * the other gets none, however they meet. Staged with held transactions.
 */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { openPool, type Sql } from '../../src/db/client.ts';
import { setFeedState } from '../../src/routing/feeds.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import {
  appendFor,
  createLiveFeed,
  type Feed,
  hold,
  keyOf,
  laneOfUser,
  startReplay,
  untilBlocked,
} from '../support/feeds.ts';
import * as protocol from '../support/lane-protocol.ts';

let database: TestDatabase;
let sql: Sql;
let feed: Feed;
let position: number;
const user = 'ann';
const lane = laneOfUser(user);

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'delivery', { max: 8 });
});
after(async () => {
  await sql.end();
  await database.drop();
});
beforeEach(async () => {
  feed = await createLiveFeed(sql);
  [position] = (await appendFor(sql, user)) as [number];
  await sql`select repeater.wake_lanes(${[lane]}::smallint[])`;
});

const live = () => ({ feedId: feed.feedId, lane, owner: 'live' });
const replayOf = (feedId: number) => ({ feedId, lane, owner: 'replay' });
const start = () =>
  startReplay(sql, feed.destinationId, { order: 'before-live', selection: { fromPosition: position } });
const cancel = (feedId: number) => sql.begin((tx) => setFeedState(tx, feedId, 'cancelled'));
const isParked = async (feedId: number) =>
  (await sql`select from repeater.parked_users where feed_id = ${feedId}`).length === 1;

test('while the replay is to run the live feed gets no lane; while it has one the replay gets none', async () => {
  assert.ok(await protocol.takeLane(sql, live()));
  const replay = await start();
  assert.equal(await protocol.takeLane(sql, replayOf(replay)), null, 'the live feed has a lane');
  await protocol.releaseLane(sql, live(), true);
  assert.equal(await protocol.takeLane(sql, live()), null, 'the replay comes first');
  assert.ok(await protocol.takeLane(sql, replayOf(replay)));
});

test('a parked user of the live feed that is being tried holds the replay as a lane does', async () => {
  const { cursor } = (await protocol.takeLane(sql, live())) as protocol.TakenLane;
  const parks = [{ userKey: keyOf(user), position }];
  await protocol.advanceLane(sql, { ...live(), from: cursor, to: position, parks });
  await protocol.releaseLane(sql, live(), true);
  const parked = { feedId: feed.feedId, userKey: keyOf(user), owner: 'live' };
  assert.ok(await protocol.takeUser(sql, parked));
  const replay = await start();
  assert.equal(await protocol.takeLane(sql, replayOf(replay)), null);
  await protocol.advanceUser(sql, parked, { next: position, failed: { attempts: 2 } });
  assert.ok(await protocol.takeLane(sql, replayOf(replay)));
  assert.equal(await protocol.takeUser(sql, parked), null, 'and is held by the replay');
});

test('a live lane that is just being taken when the replay begins is seen by it', async () => {
  const taking = await hold(sql);
  assert.ok(await protocol.takeLane(taking.sql, live()));
  const replay = await start();
  const beginning = await hold(sql);
  const begun = protocol.takeLane(beginning.sql, replayOf(replay));
  await untilBlocked(sql, beginning.pid);
  await taking.commit();
  assert.equal(await begun, null);
  await beginning.commit();
});

test('a live user that is just being taken when the replay begins is seen by it', async () => {
  await sql`insert into repeater.parked_users (feed_id, user_key, lane, from_position)
    values (${feed.feedId}, ${keyOf(user)}, ${lane}, ${position})`;
  const taking = await hold(sql);
  assert.ok(
    await protocol.takeUser(taking.sql, { feedId: feed.feedId, userKey: keyOf(user), owner: 'live' }),
  );
  const replay = await start();
  const beginning = await hold(sql);
  const begun = protocol.takeLane(beginning.sql, replayOf(replay));
  await untilBlocked(sql, beginning.pid);
  await taking.commit();
  assert.equal(await begun, null);
  await beginning.commit();
});

test('two live lanes are taken side by side, and so are the feeds of two destinations', async () => {
  const other = await createLiveFeed(sql);
  await sql`update repeater.feed_lanes set awake = true where feed_id in ${sql([feed.feedId, other.feedId])}`;
  const first = await hold(sql);
  assert.ok(await protocol.takeLane(first.sql, live()));
  assert.ok(await protocol.takeLane(sql, { ...live(), lane: (lane + 1) % 32 }));
  await startReplay(sql, other.destinationId, { order: 'before-live' });
  await first.commit();
});

test('a replay that is cancelled holds the live feed until its lane has been let go', async () => {
  const replay = await start();
  assert.ok(await protocol.takeLane(sql, replayOf(replay)));
  await cancel(replay);
  assert.equal(await protocol.takeLane(sql, live()), null, 'a call of the replay may be under way');
  await protocol.releaseLane(sql, replayOf(replay), true);
  assert.ok(await protocol.takeLane(sql, live()));
});

test('a replay that is cancelled while its lane is just being taken is seen by the live feed', async () => {
  const replay = await start();
  const taking = await hold(sql);
  assert.ok(await protocol.takeLane(taking.sql, replayOf(replay)));
  // Waits for nothing that the taker holds: other lanes, and the feed's state.
  await sql`update repeater.feeds set state = 'cancelled', finished_at = clock_timestamp() where id = ${replay}`;
  const goingOn = await hold(sql);
  const gone = protocol.takeLane(goingOn.sql, live());
  await untilBlocked(sql, goingOn.pid);
  await taking.commit();
  assert.equal(await gone, null);
  await goingOn.commit();
});

test('a user tried at the moment of the cancellation holds the live feed, and is gone when it has been let go', async () => {
  const replay = await start();
  const { cursor } = (await protocol.takeLane(sql, replayOf(replay))) as protocol.TakenLane;
  const parks = [{ userKey: keyOf(user), position }];
  await protocol.advanceLane(sql, { ...replayOf(replay), from: cursor, to: position, parks });
  const parked = { feedId: replay, userKey: keyOf(user), owner: 'replay' };
  assert.ok(await protocol.takeUser(sql, parked));
  await cancel(replay);
  await protocol.releaseLane(sql, replayOf(replay), true);
  assert.equal(await protocol.takeLane(sql, live()), null);
  await protocol.advanceUser(sql, parked, { next: position, failed: { attempts: 2 } });
  assert.ok(await protocol.takeLane(sql, live()));
  await sql`select repeater.sweep(null)`;
  assert.equal(await isParked(replay), false);
});

test('what a worker parks before it hears of the cancellation is removed by the sweep', async () => {
  const replay = await start();
  const { cursor } = (await protocol.takeLane(sql, replayOf(replay))) as protocol.TakenLane;
  await cancel(replay);
  const parks = [{ userKey: keyOf(user), position }];
  await protocol.advanceLane(sql, { ...replayOf(replay), from: cursor, to: position, parks });
  assert.equal(await isParked(replay), true);
  await sql`select repeater.sweep(null)`;
  assert.equal(await isParked(replay), false);
});

test('a paused replay goes on holding the live feed; a completed one does not', async () => {
  const replay = await start();
  await sql.begin((tx) => setFeedState(tx, replay, 'paused'));
  assert.equal(await protocol.takeLane(sql, live()), null);
  await sql.begin((tx) => setFeedState(tx, replay, 'running'));
  const { cursor } = (await protocol.takeLane(sql, replayOf(replay))) as protocol.TakenLane;
  await protocol.advanceLane(sql, { ...replayOf(replay), from: cursor, to: position, delivered: 1 });
  await protocol.releaseLane(sql, replayOf(replay), false);
  assert.equal(await protocol.takeLane(sql, live()), null, 'nobody has said yet that it has ended');
  await sql`select repeater.finish_replays()`;
  assert.ok(await protocol.takeLane(sql, live()));
});
