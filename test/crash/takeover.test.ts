/**
 * A worker that is killed, or stops and comes back, loses its lanes and users to the other one: soon, in order, and
 * with no more repeats than what was in flight or not yet recorded.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { judge, readStored, violationsOf } from '../support/history.ts';
import { type RepeaterProcess, startRepeater } from '../support/process.ts';
import { type Inbox, type Receiver, startReceiver } from '../support/receiver.ts';
import { createRandom, chooseSeed, Senders } from '../support/senders.ts';

const random = createRandom(chooseSeed());
const concurrency = 64;
const lanes = 32;
const eventsPerLaneWrite = 100;
const leaseMs = 3_000;
const users = Array.from({ length: 200 }, (_, index) => `user-${index}`);

let database: TestDatabase;
let sql: Sql;
let receiver: Receiver;
let inbox: Inbox;
let api: RepeaterProcess;
let workers: RepeaterProcess[] = [];

const start = (role: string) => startRepeater({ DATABASE_URL: database.url, ROLE: role });

beforeEach(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin');
  receiver = await startReceiver();
  inbox = receiver.inbox('orders');
  const [first, ...rest] = await Promise.all([start('api'), start('worker'), start('worker')]);
  api = first;
  workers = rest;
  await api.admin('POST', '/admin/destinations', {
    type: 'webhook',
    name: 'orders',
    settings: { url: inbox.url, timeoutSeconds: 2 },
    policy: { concurrency, retry: { initialMs: 100, maxMs: 200 } },
  });
});
afterEach(async () => {
  for (const each of [api, ...workers]) {
    each.child.kill('SIGCONT');
    await each.kill();
  }
  await receiver.close();
  await sql.end();
  await database.drop();
});

function createSenders(): Senders {
  return new Senders({ addresses: () => [api.address], users, clients: 4, random });
}

const arrived = () =>
  inbox.attempts.filter(({ answer }) => typeof answer === 'object' && answer?.status === 200);

async function untilAllArrived(senders: Senders): Promise<void> {
  await inbox.until(
    'every acknowledged event is delivered',
    () => new Set(arrived().map(({ messageId }) => messageId)).size >= senders.acknowledged.length,
    30_000,
  );
}

async function judged(senders: Senders, kills: number[]) {
  return judge({
    acknowledged: senders.acknowledged,
    stored: await readStored(sql),
    feeds: [{ name: 'orders', attempts: inbox.attempts }],
    kills,
  });
}

test('the lanes and users of a killed worker go on within five seconds', async (context) => {
  const senders = createSenders();
  let tries = 0;
  inbox.answer = ({ userId }) =>
    userId === 'user-7' && ++tries < 15 ? { status: 500 } : { status: 200, delayMs: 5 };
  const sending = senders.send({ events: 3_000, perRequest: 5, eventsPerSecond: 250 });
  await sleep(3_000);
  const killedAt = performance.now();
  await workers[0]?.kill('SIGKILL');
  await sending;
  await untilAllArrived(senders);
  const verdict = await judged(senders, [killedAt]);
  assert.deepEqual(violationsOf(verdict), {});
  const endedAt = new Map<string, number>();
  for (const { messageId, endedAt: at } of arrived())
    if (!endedAt.has(messageId)) endedAt.set(messageId, at as number);
  const lags = senders.acknowledged
    .filter(({ userId }) => userId !== 'user-7')
    .map(({ messageId, acknowledgedAt }) => (endedAt.get(messageId) as number) - acknowledgedAt);
  const longest = Math.max(...lags);
  context.diagnostic(
    `longest wait ${longest.toFixed(0)} ms, ${verdict.duplicates} duplicates, ${tries} tries of the failing user`,
  );
  assert.ok(longest < 5_000 + 1_000, `an event waited ${longest} ms`);
});

test('a kill in the middle of a backlog repeats at most what was in flight or unrecorded', async (context) => {
  const senders = createSenders();
  await Promise.all(workers.map((worker) => worker.kill('SIGKILL')));
  await senders.send({ events: 6_000, perRequest: 100 });
  workers.push(await start('worker'));
  await inbox.until('a third is delivered', () => arrived().length > 2_000, 30_000);
  const inFlight = inbox.inFlight();
  const killedAt = performance.now();
  await workers.at(-1)?.kill('SIGKILL');
  workers.push(await start('worker'));
  await untilAllArrived(senders);
  const verdict = await judged(senders, [killedAt]);
  const most = concurrency + lanes * eventsPerLaneWrite;
  context.diagnostic(`${verdict.duplicates} duplicates with ${inFlight} in flight, at most ${most}`);
  assert.deepEqual(violationsOf(verdict), {});
  assert.ok(verdict.duplicates <= most, `${verdict.duplicates} duplicates`);
});

test('a worker that was stopped for three leases and comes back changes nothing', async (context) => {
  const senders = createSenders();
  inbox.answer = () => ({ status: 200, delayMs: 20 });
  const sending = senders.send({ events: 4_000, perRequest: 5, eventsPerSecond: 250 });
  await sleep(2_000);
  const stoppedAt = performance.now();
  workers[0]?.child.kill('SIGSTOP');
  await sleep(3 * leaseMs);
  workers[0]?.child.kill('SIGCONT');
  await sending;
  await untilAllArrived(senders);
  const verdict = await judged(senders, [stoppedAt]);
  context.diagnostic(`${verdict.duplicates} duplicates`);
  assert.deepEqual(violationsOf(verdict), {});
  assert.ok(verdict.duplicates <= concurrency, `${verdict.duplicates} duplicates`);
});
