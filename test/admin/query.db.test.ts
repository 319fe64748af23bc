import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { acceptedEvent, append } from '../support/accepted-events.ts';
import { type AdminApp, createAdminApp } from '../support/admin-app.ts';

let app: AdminApp;
before(async () => {
  app = await createAdminApp();
  await app.call('POST', '/admin/sources', { name: 'web' });
  await append(app.sql, [acceptedEvent({ event: 'One' }), acceptedEvent({ event: 'Two' })]);
});
after(async () => app.close());

const run = (query: string, limit?: number) =>
  app.call('POST', '/admin/sql', limit === undefined ? { query } : { query, limit });

test('rows, columns and values', async () => {
  const { status, body } = await run(`
    -- a comment
    select id, event, payload->'properties' as properties, null as nothing, true as yes, 1.50::numeric as price,
      9007199254740993::bigint as big, 0.5::float8 as half, 'NaN'::float8 as nan, '2026-01-31'::date as day,
      array[1,2] as list, id as id
    from warehouse.events order by id`);
  assert.equal(status, 200, JSON.stringify(body));
  assert.deepEqual(body.columns, [
    'id',
    'event',
    'properties',
    'nothing',
    'yes',
    'price',
    'big',
    'half',
    'nan',
    'day',
    'list',
    'id',
  ]);
  assert.deepEqual(body.rows[1], [
    2,
    'Two',
    {},
    null,
    true,
    '1.50',
    '9007199254740993',
    0.5,
    'NaN',
    '2026-01-31',
    '{1,2}',
    2,
  ]);
  assert.deepEqual([body.rowCount, body.truncated], [2, false]);
});

test('all statements that read; an empty answer still has its columns', async () => {
  for (const query of [
    'values (1)',
    'table warehouse.events',
    '(select 1)',
    'with a as (select 1) select * from a',
    'explain select 1',
    'show server_version',
    'select 1;',
  ]) {
    assert.equal((await run(query)).status, 200, query);
  }
  assert.deepEqual((await run('select 1 as a, 2 as b where false')).body, {
    columns: ['a', 'b'],
    rows: [],
    rowCount: 0,
    truncated: false,
  });
});

test('answers are bounded in rows and bytes', async () => {
  assert.deepEqual((await run('select generate_series(1, 10)', 3)).body, {
    columns: ['generate_series'],
    rows: [[1], [2], [3]],
    rowCount: 3,
    truncated: true,
  });
  assert.equal((await run('select generate_series(1, 3)', 3)).body.truncated, false);
  const wide = (await run("select repeat('x', 1000000) from generate_series(1, 1000)")).body;
  assert.deepEqual([wide.truncated, wide.rowCount < 20], [true, true]);
  assert.equal((await run('select 1', 10_001)).status, 400);
});

test('nothing can be written, by whatever trick', async () => {
  const before =
    await app.sql`select (select count(*) from repeater.sources) as s, (select count(*) from warehouse.events) as e`;
  const tries = [
    "insert into repeater.sources (name) values ('x')",
    "with x as (insert into repeater.sources (name) values ('x') returning id) select * from x",
    "with x as (update repeater.sources set name = 'x' returning id) select * from x",
    'with x as (delete from repeater.sources returning id) select * from x',
    'select * into repeater.copy from repeater.sources',
    "select nextval('repeater.event_position')",
    'create table repeater.x (a int)',
    'drop table repeater.sources',
    'truncate repeater.sources',
    'set transaction read write',
    "select set_config('transaction_read_only', 'off', true)",
    "select set_config('transaction_read_only', 'off', true), (select count(*) from repeater.settings)",
    "select 1; insert into repeater.sources (name) values ('x')",
    'select 1; commit; drop table repeater.sources',
    'commit',
    'rollback',
    'begin',
    'do $$ begin delete from repeater.sources; end $$',
    "copy repeater.sources to program 'touch /tmp/repeater-was-here'",
    '/* select */ delete from repeater.sources',
    '-- select\ndelete from repeater.sources',
    'explain analyze delete from repeater.sources',
    'select * from repeater.sources for update',
    'lock table repeater.sources',
    'vacuum',
    'listen x',
    "notify x, 'y'",
    'prepare p as select 1',
    'discard all',
  ];
  for (const query of tries) {
    const { status, body } = await run(query);
    assert.deepEqual([status, body.code], [400, 'query_failed'], `${query} ${JSON.stringify(body)}`);
  }
  assert.deepEqual(
    await app.sql`select (select count(*) from repeater.sources) as s, (select count(*) from warehouse.events) as e`,
    before,
  );
});

test('errors are Postgres’s own, with the place', async () => {
  const { status, body } = await run('select nothing from warehouse.events');
  assert.deepEqual(
    [status, body.code, body.message],
    [400, 'query_failed', 'column "nothing" does not exist'],
  );
  assert.deepEqual(body.details, { sqlstate: '42703', position: 8 });
  assert.equal((await run('select 1; select 2')).body.message, 'query: expected one statement, got several.');
});

test('a query leaves nothing behind in the session it used', async () => {
  await run('select pg_advisory_lock(727001001)');
  await run(
    "select set_config('statement_timeout', '1', false), set_config('search_path', 'nowhere', false)",
  );
  await run('select pg_sleep(0.01), 1/0');
  assert.equal(
    (
      await app.sql`
    select from pg_locks where locktype = 'advisory'
      and database = (select oid from pg_database where datname = current_database())`
    ).length,
    0,
  );
  const settings = await Promise.all(
    Array.from(
      { length: 8 },
      () => app.sql`select current_setting('statement_timeout') as t, current_setting('search_path') as p`,
    ),
  );
  for (const [row] of settings) assert.deepEqual({ ...row }, { t: '1min', p: '"$user", public' });
});

test('two queries run at once, a third is told to come again', async () => {
  const slow = [run('select pg_sleep(0.5)'), run('select pg_sleep(0.5)')];
  const third = await run('select 1');
  assert.deepEqual([third.status, third.body.code], [429, 'rate_limited']);
  for (const { status } of await Promise.all(slow)) assert.equal(status, 200);
  assert.equal((await run('select 1')).status, 200);
});
