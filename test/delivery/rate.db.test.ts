/**
 * A feed's rate is one bucket in the database: however many workers send for the feed, together they keep it, and a
 * worker that cannot ask sends nothing.
 */
import assert from 'node:assert/strict';
import { EventEmitter, once } from 'node:events';
import { after, before, beforeEach, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPool, type Sql } from '../../src/db/client.ts';
import { Rate } from '../../src/delivery/rate.ts';
import { createLog } from '../../src/lib/log.ts';
import { createTestDatabase } from '../support/database.ts';
import { createLiveFeed } from '../support/feeds.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let first: Sql;
let second: Sql;
let feedId: number;

before(async () => {
  database = await createTestDatabase();
  first = openPool(database.url, 'delivery');
  second = openPool(database.url, 'delivery');
});
beforeEach(async () => {
  ({ feedId } = await createLiveFeed(first));
});
after(async () => {
  await Promise.all([first.end(), second.end()]);
  await database.drop();
});

/** Sets the feed's rate, with a bucket that was last looked at some time ago. */
async function setRate(ratePerSecond: number, idleSeconds: number): Promise<void> {
  await first`
    update repeater.feeds set rate_per_second = ${ratePerSecond}::float8, rate_tokens = 0,
      rate_at = clock_timestamp() - make_interval(secs => ${idleSeconds}::float8)
    where id = ${feedId}::integer`;
}

/** A worker that sends whenever it may; `sent` has the times, in seconds. */
function createWorker(sql: Sql, ratePerSecond: number | null) {
  const grants = new EventEmitter();
  const state = { stopped: false };
  const sent: number[] = [];
  const send = () => {
    while (!state.stopped && sent.length < 100_000 && rate.take()) sent.push(performance.now() / 1_000);
    grants.emit('granted');
  };
  const log = createLog({ level: 'silent' });
  const rate: Rate = new Rate({ sql, log, feedId, ratePerSecond, granted: send });
  return {
    rate,
    sent,
    send,
    stop: () => (state.stopped = true),
    /** Resolves when an answer of the bucket has been used. */
    granted: () => once(grants, 'granted'),
  };
}

test('two workers keep one limit together, use it up, and neither goes empty', async () => {
  const ratePerSecond = 400;
  const begin = performance.now() / 1_000;
  await setRate(ratePerSecond, 0);
  const workers = [createWorker(first, ratePerSecond), createWorker(second, ratePerSecond)];
  for (const worker of workers) worker.send();
  await sleep(2_000);
  for (const worker of workers) worker.stop();
  const seconds = performance.now() / 1_000 - begin;
  const counts = workers.map(({ sent }) => sent.length);
  const total = counts.reduce((sum, count) => sum + count, 0);
  assert.ok(total <= ratePerSecond * seconds, `${total} in ${seconds} s`);
  assert.ok(total >= 0.5 * ratePerSecond * seconds, `${total} in ${seconds} s`);
  for (const count of counts) assert.ok(count >= 0.1 * total, counts.join(' and '));
  // Over any stretch of time: a fifth of a second may come at once, and each worker may hold a tenth.
  const times = workers.flatMap(({ sent }) => sent).sort((left, right) => left - right);
  for (let start = 0; start < times.length; start += 20) {
    for (let end = start; end < times.length; end += 20) {
      const stretch = (times[end] as number) - (times[start] as number);
      const most = ratePerSecond * (stretch + 0.2 + workers.length * 0.1) + 1;
      assert.ok(end - start <= most, `${end - start} in ${stretch} s`);
    }
  }
});

test('a bucket that was left alone for an hour holds a fifth of a second, not an hour', async () => {
  await setRate(1_000, 3_600);
  const rows = await Promise.all(
    Array.from(
      { length: 20 },
      (_, index) => (index % 2 ? first : second)<{ tokens: number }[]>`
      select repeater.take_rate(${feedId}::integer, 100) as tokens`,
    ),
  );
  const total = rows.reduce((sum, [row]) => sum + (row?.tokens ?? 0), 0);
  // While they ask, more comes: 20 statements take well under two seconds.
  assert.ok(total >= 200 && total < 2_000, `${total}`);
  await setRate(1_000, 3_600);
  const [row] = await first<
    { tokens: number }[]
  >`select repeater.take_rate(${feedId}::integer, 5000) as tokens`;
  assert.equal(row?.tokens, 200);
});

test('a rate below one a second still sends, one at a time', async () => {
  await setRate(0.5, 3_600);
  const worker = createWorker(first, 0.5);
  worker.send();
  await worker.granted();
  assert.equal(worker.sent.length, 1);
  await setRate(0.5, 1);
  const [row] = await first<{ tokens: number }[]>`select repeater.take_rate(${feedId}::integer, 1) as tokens`;
  assert.equal(row?.tokens, 0, 'after one second there is half a token');
  worker.stop();
});

test('a send that was not needed can be given back', async () => {
  await setRate(10, 3_600);
  const worker = createWorker(first, 10);
  worker.send();
  await worker.granted();
  worker.stop();
  await setRate(10, 0);
  // What an answer that was under way still brought.
  for (let taken = true; taken;) taken = worker.rate.take();
  worker.rate.giveBack();
  assert.equal(worker.rate.take(), true);
  assert.equal(worker.rate.take(), false);
});

test('without a rate nobody is asked, and a rate can be lifted while it runs', async () => {
  const free = createWorker(first, null);
  free.send();
  assert.equal(free.sent.length, 100_000);
  await setRate(5, 0);
  const limited = createWorker(first, 5);
  assert.equal(limited.rate.take(), false);
  limited.rate.ratePerSecond = null;
  assert.equal(limited.rate.take(), true);
});

test('while the database cannot be asked nothing is sent; then it goes on by itself', async () => {
  await setRate(1_000, 3_600);
  await first`alter function repeater.take_rate(integer, integer) rename to take_rate_away`;
  const worker = createWorker(second, 1_000);
  worker.send();
  await worker.granted();
  await worker.granted();
  assert.equal(worker.sent.length, 0);
  await first`alter function repeater.take_rate_away(integer, integer) rename to take_rate`;
  while (worker.sent.length === 0) await worker.granted();
  worker.stop();
});

test('a feed that is gone sends nothing', async () => {
  await setRate(1_000, 3_600);
  feedId += 1_000;
  const worker = createWorker(first, 1_000);
  worker.send();
  await worker.granted();
  await worker.granted();
  assert.equal(worker.sent.length, 0);
  worker.stop();
});
