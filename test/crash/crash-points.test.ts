/**
 * kill -9 at each point of docs/delivery.md that can be reached from outside. The victim is held exactly there by a
 * lock or an answer that does not come; what it asked of Postgres dies with it. Afterwards its heir goes on within
 * five seconds, each user's events arrive in order, and what is sent again is what could not be known.
 */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import { openPool, type Sql } from '../../src/db/client.ts';
import { type Stage, setStage } from '../support/crash-stage.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { appendFor, createLiveFeed, hold, keyOf, laneOfUser, untilTrue } from '../support/feeds.ts';
import { judge, readStored, violationsOf } from '../support/history.ts';
import { type RepeaterProcess, startRepeater, writeKey } from '../support/process.ts';
import { type Answer, type Inbox, type Receiver, startReceiver } from '../support/receiver.ts';
import { acceptedEvent, append } from '../support/accepted-events.ts';

const ok: Answer = { status: 200 };
const failed: Answer = { status: 500 };
const withinMs = 5_000;
const user = 'ann';

let receiver: Receiver;
before(async () => (receiver = await startReceiver()));
after(async () => receiver.close());

const never = () => new Promise<never>(() => {});
interface Reached {
  /** Of two events of the user: what happens to the first is the test's, the second must follow. */
  readonly positions: [number, number];
  /** Takes away what held the worker. */
  readonly release?: () => Promise<void>;
}

async function dieAt(name: string, reach: (stage: Stage) => Promise<Reached>): Promise<void> {
  const stage = await setStage(receiver, name);
  const { inbox, sql, feed } = stage;
  try {
    const { positions, release } = await reach(stage);
    const [first, second] = positions;
    const killedAt = await stage.kill();
    inbox.answer = () => ok;
    await release?.();
    const again = () => inbox.attempts.filter(({ arrivedAt }) => arrivedAt > killedAt);
    await inbox.until('the heir goes on', () => again().some(({ endedAt }) => endedAt !== null), withinMs);
    await inbox.until(
      'all is delivered',
      () => again().at(-1)?.position === second && inbox.inFlight() === 0,
    );
    assert.deepEqual(
      again().map(({ position }) => position),
      [first, second],
    );
    const feeds = [{ name, attempts: inbox.attempts, expected: new Set(positions) }];
    assert.deepEqual(violationsOf(judge({ acknowledged: [], stored: await readStored(sql), feeds })), {});
    await untilTrue('nothing is left to do', async () => {
      const rows = await sql`
        select from repeater.feed_lanes where feed_id = ${feed.feedId} and (awake or lease_owner is not null) union all
        select from repeater.parked_users where feed_id = ${feed.feedId}`;
      return rows.length === 0;
    });
  } finally {
    await stage.close();
  }
}

/** Two events of the user, and the lane is woken. */
const begin = async (stage: Stage) => (await stage.append(user, user)) as [number, number];
const laneRow = async ({ sql, feed }: Stage) =>
  (
    await sql<{ cursor: number; awake: boolean }[]>`
      select cursor, awake from repeater.feed_lanes where feed_id = ${feed.feedId} and lane = ${laneOfUser(user)}`
  )[0];
const isParked = async ({ sql, feed }: Stage) =>
  (await sql`select from repeater.parked_users where feed_id = ${feed.feedId} and user_key = ${keyOf(user)}`)
    .length === 1;
/** Locks the lane while the first attempt is under way, then lets it end. */
const lockDuringFirstCall = (stage: Stage, answer: Answer) => {
  const locked = Promise.withResolvers<() => Promise<void>>();
  stage.inbox.answer = async () => {
    locked.resolve(await stage.lockLane(user));
    return answer;
  };
  return locked.promise;
};

suite('a worker dies', { concurrency: 3 }, () => {
  test('before it takes the lane: nobody has it, and the sweep finds that out', () =>
    dieAt('before-take-lane', async (stage) => {
      const { sql, feed } = stage;
      const lane = laneOfUser(user);
      await sql`update repeater.feed_lanes set awake = true where feed_id = ${feed.feedId} and lane = ${lane}`;
      const release = await stage.lockLane(user);
      const positions = (await appendFor(sql, user, user)) as [number, number];
      await sql`select repeater.add_lane_jobs(${[feed.feedId]}::integer[], ${[lane]}::smallint[])`;
      await stage.untilBlocked('repeater.take_lane');
      return { positions, release };
    }));

  test('while a call is in flight: that event is sent again', () =>
    dieAt('in-flight', async (stage) => {
      stage.inbox.answer = never;
      const positions = await begin(stage);
      await stage.inbox.until('the call is in flight', () => stage.inbox.inFlight() === 1);
      return { positions };
    }));

  test('after an event was delivered, before that is recorded: it is sent again', () =>
    dieAt('before-advance', async (stage) => {
      const locked = lockDuringFirstCall(stage, ok);
      const positions = await begin(stage);
      const release = await locked;
      stage.inbox.answer = never;
      await stage.untilBlocked('repeater.advance_lanes');
      return { positions, release };
    }));

  test('inside the recording: all of it or nothing', () =>
    dieAt('inside-advance', async (stage) => {
      const { sql, feed } = stage;
      const held = await hold(sql);
      await held.sql`
        insert into repeater.parked_users (feed_id, user_key, lane, from_position)
        values (${feed.feedId}, ${keyOf(user)}, ${laneOfUser(user)}, 1)`;
      stage.inbox.answer = () => failed;
      const positions = await begin(stage);
      await stage.untilBlocked('repeater.advance_lanes');
      const release = async () => {
        await held.rollback();
        assert.ok(Number((await laneRow(stage))?.cursor) < positions[0], 'the cursor has not moved');
        assert.equal(await isParked(stage), false);
      };
      return { positions, release };
    }));

  test('before a failed user is parked: the lane sends the event again', () =>
    dieAt('before-park', async (stage) => {
      const locked = lockDuringFirstCall(stage, failed);
      const positions = await begin(stage);
      const release = await locked;
      await stage.untilBlocked('repeater.advance_lanes');
      return { positions, release };
    }));

  test('while it retries for a parked user: the user is retried again', () =>
    dieAt('retrying', async (stage) => {
      stage.inbox.answer = ({ earlier }) => (earlier === 0 ? failed : never());
      const positions = await begin(stage);
      await stage.inbox.until('the retry is in flight', () => stage.inbox.attempts.length === 2);
      assert.equal(await isParked(stage), true);
      return { positions };
    }));

  test('between falling asleep and the last look: the sweep finds the events', () =>
    dieAt('last-look', async (stage) => {
      const [delivered] = await stage.append(user);
      await untilTrue('the lane is idle', async () => (await laneRow(stage))?.cursor === delivered);
      stage.inbox.forget();
      const held = await hold(stage.sql);
      await held.sql`lock table warehouse.events in access exclusive mode`;
      await untilTrue('the lane sleeps', async () => (await laneRow(stage))?.awake === false);
      await stage.untilBlocked('warehouse.events');
      const positions = (await appendFor(held.sql, user, user)) as [number, number];
      return { positions, release: held.commit };
    }));

  test('after the last event of a parked user, before it is handed back: nothing is sent again', async () => {
    const stage = await setStage(receiver, 'before-unpark');
    const { sql, inbox } = stage;
    try {
      const locked = Promise.withResolvers<() => Promise<void>>();
      inbox.answer = async ({ earlier }) => {
        if (earlier === 0) return failed;
        const held = await hold(sql);
        await held.sql`lock table warehouse.events in access exclusive mode`;
        locked.resolve(held.commit);
        return ok;
      };
      const [position] = await stage.append(user);
      const release = await locked.promise;
      await stage.untilBlocked('e.user_key');
      assert.equal(await isParked(stage), true);
      await stage.kill();
      await release();
      await untilTrue('it is handed back', async () => !(await isParked(stage)), withinMs);
      inbox.answer = () => ok;
      const [next] = await stage.append(user);
      await inbox.until('the next event is delivered', () =>
        inbox.attempts.some(({ position, answer }) => position === next && answer === ok),
      );
      assert.deepEqual(
        inbox.attempts.map((attempt) => [attempt.position, attempt.answer]),
        [
          [position, failed],
          [position, ok],
          [next, ok],
        ],
      );
    } finally {
      await stage.close();
    }
  });
});

suite('an API process dies', () => {
  let database: TestDatabase;
  let sql: Sql;
  let inbox: Inbox;
  let survivor: RepeaterProcess;
  let worker: RepeaterProcess;

  before(async () => {
    database = await createTestDatabase();
    sql = openPool(database.url, 'admin', { max: 8 });
    inbox = receiver.inbox('api');
    await append(sql, [acceptedEvent()]);
    await createLiveFeed(sql, 'webhook', { settings: { url: inbox.url } });
    const start = (ROLE: string) => startRepeater({ DATABASE_URL: database.url, ROLE });
    [survivor, worker] = await Promise.all([start('api'), start('worker')]);
  });
  after(async () => {
    await Promise.all([survivor.kill(), worker.kill()]);
    await sql.end();
    await database.drop();
  });

  const send = async ({ address }: RepeaterProcess, messageId: string): Promise<number | null> => {
    const response = await fetch(`${address}/v1/track`, {
      method: 'POST',
      body: JSON.stringify({
        writeKey,
        messageId,
        userId: messageId,
        event: 'Tested',
        properties: { seq: 1 },
      }),
    }).catch(() => null);
    return response?.status ?? null;
  };
  const stored = async (messageId: string) =>
    (await sql`select from warehouse.events where message_id = ${messageId}`).length;
  const untilIngestWaits = (words: string) =>
    untilTrue(`${words} waits`, async () => {
      const rows = await sql`
        select from pg_stat_activity where datname = current_database() and application_name = 'repeater ingest'
          and wait_event_type = 'Lock' and query like ${`%${words}%`}`;
      return rows.length > 0;
    });
  const endSessions = () => sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'repeater ingest' and state = 'active'`;
  const startDoomed = () => startRepeater({ DATABASE_URL: database.url, ROLE: 'api' });
  const untilDelivered = (messageId: string, limitMs: number) =>
    inbox.until(
      `${messageId} is delivered`,
      () => inbox.attempts.some((each) => each.messageId === messageId),
      limitMs,
    );
  const deliveries = (messageId: string) =>
    inbox.attempts.filter((each) => each.messageId === messageId).length;

  test('before the commit: nothing is stored, nothing was promised; the same message again is stored once', async () => {
    const doomed = await startDoomed();
    const held = await hold(sql);
    await held.sql`select pg_advisory_xact_lock(727001001)`;
    const answer = send(doomed, 'before-commit');
    await untilIngestWaits('append_events');
    await doomed.kill();
    await endSessions();
    await held.commit();
    assert.equal(await answer, null);
    assert.equal(await stored('before-commit'), 0);
    assert.equal(await send(survivor, 'before-commit'), 200);
    assert.equal(await stored('before-commit'), 1);
  });

  test('after the commit, before the answer: the same message again is found, stored and delivered once', async () => {
    const doomed = await startDoomed();
    const held = await hold(sql);
    await held.sql`select pg_advisory_xact_lock(727001001)`;
    const answer = send(doomed, 'before-answer');
    await untilIngestWaits('append_events');
    doomed.child.kill('SIGSTOP');
    await held.commit();
    await untilTrue('it is committed', async () => (await stored('before-answer')) === 1);
    await doomed.kill();
    assert.equal(await answer, null);
    assert.equal(await send(survivor, 'before-answer'), 200);
    assert.equal(await stored('before-answer'), 1);
    await untilDelivered('before-answer', withinMs);
    assert.equal(deliveries('before-answer'), 1);
  });

  test('after the answer, before the wake-up: the sweep wakes the lane', async () => {
    const doomed = await startDoomed();
    const messageId = 'before-wake-up';
    const lane = laneOfUser(messageId);
    await untilTrue(
      'the lane sleeps',
      async () => (await sql`select from repeater.feed_lanes where awake and lane = ${lane}`).length === 0,
    );
    const held = await hold(sql);
    await held.sql`select from repeater.feed_lanes where lane = ${lane} for update`;
    assert.equal(await send(doomed, messageId), 200);
    await untilIngestWaits('wake_lanes');
    await doomed.kill();
    await endSessions();
    await held.commit();
    await untilDelivered(messageId, withinMs);
    assert.equal(deliveries(messageId), 1);
  });
});
