/**
 * Replays while events come in: each delivers exactly its set, in order, whatever is paused, cancelled or killed
 * meanwhile, and the live feed keeps its own order beside it.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { judge, readStored, type StoredRow, violationsOf } from '../support/history.ts';
import { type RepeaterProcess, startRepeater } from '../support/process.ts';
import { type Inbox, type Receiver, startReceiver } from '../support/receiver.ts';
import { chooseSeed, createRandom, Senders } from '../support/senders.ts';

const users = Array.from({ length: 40 }, (_, index) => `user-${index}`);
let database: TestDatabase;
let sql: Sql;
let receiver: Receiver;
let live: Inbox;
let other: Inbox;
let api: RepeaterProcess;
let worker: RepeaterProcess;
let senders: Senders;
let liveId: string;
let otherId: string;

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin');
  receiver = await startReceiver();
  live = receiver.inbox('live');
  other = receiver.inbox('other');
  [api, worker] = await Promise.all([start('api'), start('worker')]);
  senders = new Senders({
    addresses: () => [api.address],
    users,
    clients: 4,
    random: createRandom(chooseSeed()),
  });
  const create = async (name: string, url: string) =>
    (
      (await api.admin('POST', '/admin/destinations', { type: 'webhook', name, settings: { url } })) as {
        id: string;
      }
    ).id;
  liveId = await create('live', live.url);
  otherId = await create('other', other.url);
  await senders.send({ events: 1_500, perRequest: 20, eventName: 'Product Viewed' });
  await senders.send({ events: 1_500, perRequest: 20, eventName: 'Order Completed' });
});
after(async () => {
  await Promise.all([api.kill(), worker.kill()]);
  await receiver.close();
  await sql.end();
  await database.drop();
});

const start = (role: string) => startRepeater({ DATABASE_URL: database.url, ROLE: role });

interface Replay {
  id: string;
  state: string;
  total: number;
  done: number;
  delivered: number;
}
const create = (body: object) => api.admin('POST', '/admin/replays', body) as Promise<Replay>;
const show = (id: string) => api.admin('GET', `/admin/replays/${id}`) as Promise<Replay>;

async function untilState(id: string, state: string): Promise<Replay> {
  for (let tries = 0; tries < 400; tries++) {
    const replay = await show(id);
    if (replay.state === state) return replay;
    await sleep(50);
  }
  throw new Error(`${id} is not ${state}: ${JSON.stringify(await show(id))}`);
}

/** What a replay should deliver, by SQL that knows nothing of selections. */
async function expected(condition: string): Promise<Set<number>> {
  const rows = await sql.unsafe<{ id: number }[]>(`select id from warehouse.events where ${condition}`);
  return new Set(rows.map(({ id }) => id));
}

async function assertClean(
  feeds: { name: string; inbox: Inbox; replayId: string | null; expected?: Set<number> }[],
  kills: number[] = [],
): Promise<void> {
  const stored: StoredRow[] = await readStored(sql);
  const verdict = judge({
    acknowledged: senders.acknowledged.filter(() => false),
    stored,
    feeds: feeds.map(({ name, inbox, replayId, expected: positions }) => ({
      name,
      attempts: inbox.attempts.filter((attempt) => attempt.replayId === replayId),
      ...(positions && { expected: positions }),
    })),
    kills,
  });
  assert.deepEqual(violationsOf(verdict), {});
}

async function liveCaughtUp(): Promise<void> {
  await live.until(
    'the live feed has everything',
    () =>
      new Set(live.attempts.filter(({ replayId }) => replayId === null).map(({ messageId }) => messageId))
        .size >= senders.acknowledged.length,
    30_000,
  );
}

test('two replays at once, one paused and resumed, with a kill in the middle, beside live traffic', async () => {
  await liveCaughtUp();
  live.answer = other.answer = () => ({ status: 200, delayMs: 3 });
  const traffic = senders.send({ events: 1_500, perRequest: 5, eventsPerSecond: 200 });
  const chosen = ['user-3', 'user-9', 'user-21'];
  const upTo = (await expected('true')).size;
  const first = await create({
    destinationId: otherId,
    selection: { events: ['Order Completed'], userIds: chosen, toPosition: upTo },
  });
  const second = await create({
    destinationId: liveId,
    selection: { events: ['Product Viewed'] },
    ratePerSecond: 400,
  });
  await sleep(1_000);
  assert.equal(((await api.admin('POST', `/admin/replays/${second.id}/pause`)) as Replay).state, 'paused');
  await sleep(1_500);
  const standing = (await show(second.id)).done;
  await sleep(1_000);
  assert.equal((await show(second.id)).done, standing, 'a paused replay stands');
  const killedAt = performance.now();
  await worker.kill('SIGKILL');
  worker = await start('worker');
  await api.admin('POST', `/admin/replays/${second.id}/resume`);
  const ended = [await untilState(first.id, 'completed'), await untilState(second.id, 'completed')];
  await traffic;
  await liveCaughtUp();
  for (const replay of ended) assert.equal(replay.done, replay.total);
  const orders = await expected(
    `event = 'Order Completed' and user_id in ('${chosen.join("','")}') and id <= ${upTo}`,
  );
  const views = await expected(`event = 'Product Viewed'`);
  assert.deepEqual([first.total, second.total], [orders.size, views.size]);
  await assertClean(
    [
      { name: 'replay to other', inbox: other, replayId: first.id, expected: orders },
      { name: 'replay to live', inbox: live, replayId: second.id, expected: views },
      { name: 'live', inbox: live, replayId: null },
    ],
    [killedAt],
  );
});

test('a cancelled replay stops within five seconds and sends nothing after', async () => {
  const replay = await create({ destinationId: otherId, selection: {}, ratePerSecond: 100 });
  await other.until('it runs', () => other.attempts.some(({ replayId }) => replayId === replay.id));
  await api.admin('POST', `/admin/replays/${replay.id}/cancel`);
  await sleep(5_000);
  const sent = other.attempts.filter(({ replayId }) => replayId === replay.id).length;
  assert.ok(sent < replay.total, `${sent} of ${replay.total}`);
  await sleep(1_500);
  assert.equal(other.attempts.filter(({ replayId }) => replayId === replay.id).length, sent);
});

test('before live: the live feed waits, then goes on without a gap', async () => {
  await liveCaughtUp();
  const from = live.attempts.length;
  const replay = await create({
    destinationId: liveId,
    selection: { events: ['Order Completed'] },
    order: 'before-live',
    ratePerSecond: 800,
  });
  const orders = await expected(`event = 'Order Completed'`);
  await sleep(1_500);
  await senders.send({ events: 300, perRequest: 10, eventName: 'Later' });
  await untilState(replay.id, 'completed');
  await liveCaughtUp();
  const after = live.attempts.slice(from);
  const lastReplayed = after.findLastIndex(({ replayId }) => replayId === replay.id);
  const firstLater = after.findIndex(
    ({ replayId, event }) => replayId === null && event['event'] === 'Later',
  );
  assert.ok(lastReplayed >= 0 && firstLater > lastReplayed, `${lastReplayed} then ${firstLater}`);
  await assertClean([
    { name: 'replay', inbox: live, replayId: replay.id, expected: orders },
    { name: 'live', inbox: live, replayId: null },
  ]);
});
