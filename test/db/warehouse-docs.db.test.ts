/** docs/warehouse.md tells the truth: its tables list the columns there are, and its queries run. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { openPool, type Sql } from '../../src/db/client.ts';
import { acceptedEvent, append } from '../support/accepted-events.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

const page = await readFile(new URL('../../docs/warehouse.md', import.meta.url), 'utf8');

let database: TestDatabase;
let sql: Sql;

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin', { max: 1 });
  await append(
    sql,
    ['ann', 'ben'].map((userId) => acceptedEvent({ userId, event: 'Order Completed' })),
  );
});

after(async () => {
  await sql.end({ timeout: 5 });
  await database.drop();
});

const sections = page.split(/^## /m).slice(1);

test('the columns are those of the tables, in their order, with their types', async () => {
  const tables = sections.filter((section) => section.startsWith('warehouse.'));
  assert.equal(tables.length, 4);
  for (const section of tables) {
    const [name = ''] = section.split('\n');
    const documented = [...section.matchAll(/^\| `(\w+)` +\| `([\w[\]]+)` +\|/gm)].map((row) => row.slice(1));
    const present = await sql<{ column: string; type: string }[]>`
      select attname as column, format_type(atttypid, null) as type from pg_attribute
      where attrelid = ${name}::regclass and attnum > 0 and not attisdropped order by attnum`;
    assert.deepEqual(
      documented,
      present.map(({ column, type }) => [column, type.replace('timestamp with time zone', 'timestamptz')]),
    );
  }
});

test('every query runs, and those about events find some', async () => {
  const queries = [...page.matchAll(/^```sql\n([\s\S]*?)^```$/gm)].map(([, query = '']) => query);
  assert.equal(queries.length, 7);
  for (const query of queries) await sql.unsafe(query);
  const [revenue = '', history = ''] = queries;
  assert.equal((await sql.unsafe(revenue)).length, 2);
  assert.equal((await sql.unsafe(history)).length, 1);
});
