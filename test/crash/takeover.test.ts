/**
 * A worker that dies or falls silent: the other one has its lanes and parked users within five seconds, what is sent
 * again is at most what was in flight or not yet recorded, and a worker that comes back from the dead changes nothing.
 */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPool, type Sql } from '../../src/db/client.ts';
import { lanesCount } from '../../src/lib/ids.ts';
import { acceptedEvent, append } from '../support/accepted-events.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { appendFor, createLiveFeed, type Feed, keyOf, laneOfUser, untilTrue } from '../support/feeds.ts';
import { judge, readStored, violationsOf } from '../support/history.ts';
import { type RepeaterProcess, startRepeater } from '../support/process.ts';
import { type Answer, type Attempt, type Inbox, type Receiver, startReceiver } from '../support/receiver.ts';

const withinMs = 5_000;
const leaseMs = 3_000;
/** As progress-writer.ts writes: about every so many events of a lane. */
const eventsPerCursorWrite = 100;
const concurrency = 64;

let database: TestDatabase;
let sql: Sql;
let receiver: Receiver;
let inbox: Inbox;
let feed: Feed;
let workers: RepeaterProcess[] = [];
let inboxes = 0;

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin');
  receiver = await startReceiver();
  await appendFor(sql, 'first of all');
});
after(async () => {
  await Promise.all(workers.map((worker) => worker.kill()));
  await receiver.close();
  await sql.end();
  await database.drop();
});
/** Two workers and a destination that nothing was sent to yet. */
beforeEach(async () => {
  await sql`update repeater.feeds set state = 'cancelled', finished_at = now()`;
  inbox = receiver.inbox(`inbox-${inboxes++}`);
  const policy = { concurrency, retry: { initialMs: 50, maxMs: 200 } };
  feed = await createLiveFeed(sql, 'webhook', { settings: { url: inbox.url, timeoutSeconds: 20 }, policy });
  workers = workers.filter(({ child }) => child.exitCode === null && child.signalCode === null);
  while (workers.length < 2)
    workers.push(await startRepeater({ DATABASE_URL: database.url, ROLE: 'worker' }));
});

/** Lanes and users whose lease a process has. */
async function heldBy({ child }: RepeaterProcess): Promise<{ lanes: Set<number>; users: Set<string> }> {
  const owner = `${child.pid}-%`;
  const lanes = await sql<{ lane: number }[]>`
    select lane from repeater.feed_lanes where feed_id = ${feed.feedId} and lease_owner like ${owner}`;
  const users = await sql<{ key: string }[]>`
    select user_key as key from repeater.parked_users where feed_id = ${feed.feedId} and lease_owner like ${owner}`;
  return { lanes: new Set(lanes.map(({ lane }) => lane)), users: new Set(users.map(({ key }) => key)) };
}

const laneOfAttempt = ({ userId }: Attempt) => laneOfUser(userId as string);
const users = Array.from({ length: 300 }, (_, index) => `user-${index}`);

/** Appends a backlog of ten events of each user and wakes all lanes; the positions. */
async function appendBacklog(): Promise<Set<number>> {
  const events = Array.from({ length: 10 }, (_, seq) =>
    users.map((userId) => acceptedEvent({ userId, properties: { seq } })),
  );
  const last = await append(sql, events.flat());
  await sql`select repeater.wake_lanes(array(select generate_series(0, 31))::smallint[])`;
  return new Set(Array.from({ length: users.length * 10 }, (_, index) => last - index));
}

async function verdictOf(expected: ReadonlySet<number>) {
  const feeds = [{ name: 'backlog', attempts: inbox.attempts, expected }];
  return judge({ acknowledged: [], stored: await readStored(sql), feeds });
}

const untilAllDelivered = (expected: ReadonlySet<number>) =>
  inbox.until(
    'everything is delivered',
    () => new Set(inbox.attempts.filter(isDelivered).map(({ position }) => position)).size === expected.size,
    30_000,
  );
const isDelivered = ({ answer }: Attempt) => typeof answer === 'object' && answer?.status === 200;

test('kill -9 in a backlog: lanes and users go on within five seconds, few events are sent again', async (context) => {
  // Ten users fail until the kill, their retries slowly, so that some are under way.
  const ill = new Set(users.slice(0, 10));
  let isIll = true;
  inbox.answer = ({ userId, earlier }) => {
    if (!isIll || !ill.has(userId as string)) return { status: 200, delayMs: 20 };
    return { status: 500, delayMs: earlier > 0 ? 1_000 : 0 };
  };
  const expected = await appendBacklog();
  await untilTrue('both have lanes, and the one that dies has a user', async () => {
    const [first, second] = await Promise.all(workers.map(heldBy));
    return (
      inbox.attempts.length > 500 && second!.lanes.size > 0 && first!.users.size > 0 && first!.lanes.size > 0
    );
  });
  const [doomed] = workers as [RepeaterProcess, RepeaterProcess];
  const held = await heldBy(doomed);
  await doomed.kill();
  const killedAt = performance.now();
  const inFlight = inbox.inFlight();
  isIll = false;
  await untilAllDelivered(expected);
  const verdict = await verdictOf(expected);
  const later = inbox.attempts.filter(({ arrivedAt }) => arrivedAt > killedAt);
  const silences = [...held.lanes].map(
    (lane) => later.find((attempt) => laneOfAttempt(attempt) === lane)?.arrivedAt,
  );
  const userSilences = [...held.users].map(
    (key) => later.find(({ userId }) => keyOf(userId as string) === key)?.arrivedAt,
  );
  const longest = Math.max(...[...silences, ...userSilences].map((at) => (at ?? Infinity) - killedAt));
  context.diagnostic(
    `${held.lanes.size} lanes and ${held.users.size} users taken over, the last after ${longest.toFixed(0)} ms; ` +
      `${inFlight} calls in flight, ${verdict.duplicates} events sent again`,
  );
  assert.deepEqual(violationsOf(verdict), {});
  assert.ok(longest < withinMs, `silent for ${longest} ms`);
  const bound = inFlight + lanesCount * eventsPerCursorWrite;
  assert.ok(verdict.duplicates <= bound, `${verdict.duplicates} sent again, at most ${bound}`);
});

test('what is sent again after kill -9 is what was in flight or ended within the time between two cursor writes', async (context) => {
  inbox.answer = () => ({ status: 200, delayMs: 5 });
  const expected = await appendBacklog();
  await inbox.until('the half is delivered', () => inbox.attempts.length > expected.size / 2);
  const [doomed] = workers as [RepeaterProcess, RepeaterProcess];
  await doomed.kill();
  const killedAt = performance.now();
  await untilAllDelivered(expected);
  const firsts = new Map<number, number>();
  for (const { position, arrivedAt } of inbox.attempts.filter(isDelivered))
    if (!firsts.has(position)) firsts.set(position, arrivedAt);
  const ages = inbox.attempts
    .filter(({ earlier }) => earlier > 0)
    .map(({ position }) => killedAt - (firsts.get(position) ?? killedAt));
  const oldest = Math.max(0, ...ages);
  context.diagnostic(
    `${ages.length} events sent again, delivered up to ${oldest.toFixed(0)} ms before the kill`,
  );
  assert.deepEqual(violationsOf(await verdictOf(expected)), {});
  // 50 ms between two writes, and what they take themselves on a machine that does other things too.
  assert.ok(oldest < 1_000, `an event delivered ${oldest} ms before the kill was sent again`);
});

test('SIGTERM in a backlog: the other worker has its lanes at once, and nothing is sent again', async (context) => {
  inbox.answer = () => ({ status: 200, delayMs: 20 });
  const expected = await appendBacklog();
  await untilTrue('both have lanes', async () => {
    const [first, second] = await Promise.all(workers.map(heldBy));
    return inbox.attempts.length > 500 && first!.lanes.size > 0 && second!.lanes.size > 0;
  });
  const [leaving] = workers as [RepeaterProcess, RepeaterProcess];
  const held = await heldBy(leaving);
  const toldAt = performance.now();
  await leaving.kill('SIGTERM');
  const tookMs = performance.now() - toldAt;
  await untilAllDelivered(expected);
  const verdict = await verdictOf(expected);
  context.diagnostic(`${held.lanes.size} lanes handed over, gone after ${tookMs.toFixed(0)} ms`);
  assert.equal(leaving.child.exitCode, 0);
  assert.equal(verdict.duplicates, 0);
  assert.deepEqual(violationsOf(verdict), {});
  assert.ok(tookMs < withinMs, `it took ${tookMs} ms to go`);
});

test('SIGSTOP for three leases, then SIGCONT: order holds, late results are refused, nothing more is sent', async (context) => {
  const [zombie] = workers as [RepeaterProcess, RepeaterProcess];
  const held = new Map<Attempt, (answer: Answer) => void>();
  let isHolding = false;
  inbox.answer = (attempt) =>
    isHolding
      ? new Promise((resolve) => held.set(attempt, resolve))
      : Promise.resolve({ status: 200, delayMs: 10 });
  const expected = await appendBacklog();
  await untilTrue('both work', async () => {
    const lanes = await Promise.all(workers.map(async (worker) => (await heldBy(worker)).lanes.size));
    return inbox.attempts.length > 300 && lanes.every((count) => count > 0);
  });
  isHolding = true;
  await inbox.until('calls are in flight', () => held.size >= concurrency);
  const lost = (await heldBy(zombie)).lanes;
  zombie.child.kill('SIGSTOP');
  isHolding = false;
  const ofZombie = [...held].filter(([attempt]) => lost.has(laneOfAttempt(attempt)));
  // The living worker's calls are answered; the silent one's stay open.
  for (const [attempt, answer] of held) if (!lost.has(laneOfAttempt(attempt))) answer({ status: 200 });
  const stoppedAt = performance.now();
  await untilAllDelivered(expected);
  // What it had sent before it was stopped may still arrive a moment later.
  const later = inbox.attempts.filter(({ arrivedAt }) => arrivedAt > stoppedAt + 1_000);
  const silences = [...lost].map(
    (lane) => later.find((attempt) => laneOfAttempt(attempt) === lane)?.arrivedAt,
  );
  const tookMs = Math.max(...silences.map((at) => (at ?? stoppedAt) - stoppedAt));
  await sleep(3 * leaseMs - (performance.now() - stoppedAt));
  const before =
    await sql`select lane, cursor, delivered, lease_owner from repeater.feed_lanes where feed_id = ${feed.feedId} order by lane`;
  const attempts = inbox.attempts.length;
  for (const [, answer] of ofZombie) answer({ status: 200 });
  zombie.child.kill('SIGCONT');
  await untilTrue('it knows that it has lost its lanes', () => zombie.output().includes('taken over'));
  // It takes part again: new events come through, half of the lanes by it.
  const more = await appendFor(sql, ...users);
  await sql`select repeater.wake_lanes(array(select generate_series(0, 31))::smallint[])`;
  await untilAllDelivered(new Set([...expected, ...more]));
  const verdict = await verdictOf(new Set([...expected, ...more]));
  context.diagnostic(
    `${lost.size} lanes taken over after ${tookMs.toFixed(0)} ms, ${ofZombie.length} calls were in flight, ` +
      `${verdict.duplicates} events sent again`,
  );
  assert.ok(tookMs < withinMs, `silent for ${tookMs} ms`);
  assert.ok(verdict.duplicates <= ofZombie.length + lanesCount * eventsPerCursorWrite);
  assert.equal(
    inbox.attempts.length,
    attempts + more.length,
    'the events known to the zombie were not sent again',
  );
  const afterwards =
    await sql`select sum(delivered)::integer as delivered from repeater.feed_lanes where feed_id = ${feed.feedId}`;
  const counted = before.reduce((sum, row) => sum + Number(row['delivered']), 0);
  assert.ok(
    Number(afterwards[0]?.['delivered']) <= counted + more.length,
    'late results are counted by nobody',
  );
  // Only beside the calls that it had in flight may later events of the same users have been sent.
  const frozen = new Set(ofZombie.map(([{ userId }]) => userId));
  assert.deepEqual(
    verdict.overtakes.filter((line) => !frozen.has(/: (\S+)/.exec(line)?.[1] as string)),
    [],
  );
  assert.deepEqual(violationsOf({ ...verdict, overtakes: [] }), {});
});
