/**
 * The late-commit race: a position is taken before its transaction commits, so without the ingest lock a
 * reader can pass a position that becomes visible only later, and never deliver it.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPool, type Sql } from '../../src/db/client.ts';
import { appendEvents } from '../../src/events/append.ts';
import { acceptedEvent } from '../support/events.ts';
import { createTestDatabase } from '../support/database.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let first: Sql;
let second: Sql;

before(async () => {
  database = await createTestDatabase();
  first = openPool(database.url, 'ingest');
  second = openPool(database.url, 'ingest');
});

after(async () => {
  await Promise.all([first.end(), second.end()]);
  await database.drop();
});

/** A reader as delivery is one: remembers the highest position it saw and asks for what is above. */
function createReader(sql: Sql) {
  let cursor = 0;
  const seen = new Set<number>();
  return {
    seen,
    async read() {
      const rows = await sql<
        { id: number }[]
      >`select id from warehouse.events where id > ${cursor} order by id`;
      for (const row of rows) {
        seen.add(row.id);
        cursor = row.id;
      }
    },
  };
}

/** Two processes append small groups as fast as they can while a reader follows. Returns the positions it missed. */
async function race(groups: number): Promise<number[]> {
  const reader = createReader(second);
  const append = async (sql: Sql, user: string) => {
    for (let group = 0; group < groups; group++) {
      await appendEvents(sql, [acceptedEvent(user), acceptedEvent(user)], 48);
    }
  };
  const under = { way: true };
  const appends = Promise.all([append(first, 'a'), append(first, 'b'), append(second, 'c')]).then(
    () => (under.way = false),
  );
  while (under.way) await reader.read();
  await appends;
  await reader.read();
  const rows = await first<
    { id: number }[]
  >`select id from warehouse.events where id > ${Math.min(...reader.seen) - 1}`;
  return rows.map((row) => row.id).filter((id) => !reader.seen.has(id));
}

test('an uncommitted append holds back the later one, so that no reader can pass it', async () => {
  const reader = createReader(second);
  const held = await first.reserve();
  await held`begin`;
  await appendEvents(held, [acceptedEvent('early')], 48);
  const later = appendEvents(second, [acceptedEvent('late')], 48);
  const waited = await Promise.race([
    later.then(() => 'committed'),
    new Promise((resolve) => setTimeout(resolve, 300, 'waits')),
  ]);
  assert.equal(waited, 'waits');
  await reader.read();
  assert.equal(reader.seen.size, 0);
  await held`commit`;
  held.release();
  await later;
  await reader.read();
  assert.equal(reader.seen.size, 2);
});

test('two processes appending at once never make a reader skip an event', async () => {
  assert.deepEqual(await race(300), []);
});

test('without the ingest lock they do: the tests above can fail', async () => {
  const [original] = await first<{ source: string }[]>`
    select pg_get_functiondef('repeater.append_events'::regproc) as source`;
  const lock = 'perform pg_advisory_xact_lock(727001001);';
  assert.ok(original);
  assert.ok(original.source.includes(lock));
  await first.unsafe(original.source.replace(lock, ''));
  try {
    const held = await first.reserve();
    await held`begin`;
    await appendEvents(held, [acceptedEvent('early')], 48);
    const reader = createReader(second);
    await appendEvents(second, [acceptedEvent('late')], 48);
    await reader.read();
    await held`commit`;
    held.release();
    const before = reader.seen.size;
    await reader.read();
    assert.equal(reader.seen.size, before, 'the early event became visible below the cursor');
    const [row] = await first<
      { count: number }[]
    >`select count(*) as count from warehouse.events where user_id = 'early'`;
    assert.equal(row?.count, 2);
  } finally {
    await first.unsafe(original.source);
  }
});
