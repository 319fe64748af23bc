/** The test support itself: a wrong fresh database would make every other test lie. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import postgres from 'postgres';
import { createTestDatabase } from './database.ts';

test('each test database is empty of what another one holds', async () => {
  const [one, two] = await Promise.all([createTestDatabase(), createTestDatabase()]);
  const sql = postgres(one.url);
  await sql`create table only_here (id int)`;
  await sql.end();
  const other = postgres(two.url);
  const [row] = await other`select to_regclass('only_here') as found`;
  await other.end();
  assert.equal(row?.['found'], null);
  await Promise.all([one.drop(), two.drop()]);
});

test('a connection left open is reported, and the database goes anyway', async () => {
  const database = await createTestDatabase();
  const leaked = postgres(database.url, { connection: { application_name: 'leaky' } });
  await leaked`select 1`;
  await assert.rejects(database.drop(), /left open.*leaky/);
  await leaked.end();
  await assert.rejects(postgres(database.url)`select 1`, { code: '3D000' });
});
