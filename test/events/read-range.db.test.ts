import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPool, type Sql } from '../../src/db/client.ts';
import { newestPosition, readPages, readRange } from '../../src/events/read-range.ts';
import { acceptedEvent, append } from '../support/accepted-events.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let database: TestDatabase;
let sql: Sql;

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin');
});
after(async () => {
  await sql.end();
  await database.drop();
});

const positions = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, index) => from + index);

test('an empty log has no newest position and no pages', async () => {
  assert.equal(await newestPosition(sql), 0);
  for await (const page of readPages(sql, { after: 0, upTo: 0, limit: 10 }))
    assert.fail(`a page of ${page.length}`);
});

test('pages hold every event once, in position order across lanes', async () => {
  const events = Array.from({ length: 2500 }, (_, index) => acceptedEvent({ userId: `u${index % 211}` }));
  assert.equal(await append(sql, events), 2500);
  assert.equal(await newestPosition(sql), 2500);
  const seen: number[] = [];
  for await (const page of readPages(sql, { after: 100, upTo: 2400, limit: 333 })) {
    assert.ok(page.length <= 333);
    seen.push(...page.map((event) => event.position));
  }
  assert.deepEqual(seen, positions(101, 2400));
  assert.equal(new Set(events.map((event) => event.lane)).size, 32, 'the test reaches all lanes');
});

test('rare events are found in few statements, and bounds hold in both orders', async () => {
  await append(sql, [acceptedEvent({ event: 'Rare' })]);
  const condition = sql`e.event = ${'Rare'}`;
  const range = { after: 0, upTo: 2501, limit: 10, condition };
  assert.deepEqual(
    (await readRange(sql, range)).map((event) => event.position),
    [2501],
  );
  assert.deepEqual(
    (await readRange(sql, { ...range, order: 'descending' })).map((event) => event.position),
    [2501],
  );
  assert.deepEqual(await readRange(sql, { ...range, upTo: 2500 }), []);
  const newest = await readRange(sql, { after: 5, upTo: 2000, limit: 3, order: 'descending' });
  assert.deepEqual(
    newest.map((event) => event.position),
    [2000, 1999, 1998],
  );
});

test('a page and the newest position are found by index, whatever the log’s length', async () => {
  const plans = async (pool: Sql) => {
    const explain = async (text: string) =>
      (await pool.unsafe(`explain ${text}`)).map((row) => String(row['QUERY PLAN'])).join('\n');
    await pool`analyze warehouse.events`;
    return explain(`
      select e.id from warehouse.events e
      where e.lane = any('{${positions(0, 31).join()}}'::smallint[]) and e.id > 1000 and e.id <= 1010 order by e.id`);
  };
  const plan = await plans(sql);
  assert.match(plan, /(Index|Bitmap).* on events_\d+_\d+/);
  assert.doesNotMatch(plan, /Seq Scan on events_\d+_\d+ .*rows=[1-9]\d\d/);
});

test('nothing uncommitted moves the newest position, nor what is below it', async () => {
  const other = openPool(database.url, 'ingest', { max: 1 });
  try {
    const before = await newestPosition(sql);
    await other.begin(async (tx) => {
      await tx`select pg_advisory_xact_lock(727001001)`;
      await tx`select nextval('repeater.event_position')`;
      assert.equal(await newestPosition(sql), before);
    });
  } finally {
    await other.end();
  }
});
