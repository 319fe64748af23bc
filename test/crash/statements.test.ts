/** What delivering costs the database: SQL statements an event, counted by Postgres itself. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPool } from '../../src/db/client.ts';
import { acceptedEvent, append } from '../support/accepted-events.ts';
import { createTestDatabase } from '../support/database.ts';
import { createLiveFeed } from '../support/feeds.ts';
import { delivered, scriptedType, startWorker } from '../support/worker.ts';

const events = 20_000;
const users = 2_000;
const mostPerEvent = 0.05;

test('a backlog is delivered with at most one statement for twenty events', async (context) => {
  const database = await createTestDatabase();
  const sql = openPool(database.url, 'admin', { max: 1 });
  const worker = await startWorker(database.url, { script: () => delivered, sweeps: true });
  try {
    await createLiveFeed(sql, scriptedType);
    const before = await transactions();
    const backlog = Array.from({ length: events }, (_, index) =>
      acceptedEvent({ userId: `u${index % users}` }),
    );
    await append(sql, backlog);
    const ownStatements = events / 1_000;
    const deadline = Date.now() + 60_000;
    while (worker.calls.length < events && Date.now() < deadline) await sleep(20);
    assert.equal(worker.calls.length, events);
    // A session tells what it did when it ends.
    await worker.stop();
    const statements = (await transactions()) - before - ownStatements;
    context.diagnostic(
      `${statements} statements for ${events} events, ${(statements / events).toFixed(4)} an event`,
    );
    assert.ok(statements > 0, 'nothing was counted');
    assert.ok(statements <= events * mostPerEvent, `${statements} statements`);
  } finally {
    await worker.stop();
    await sql.end();
    await database.drop();
  }

  /** Each statement of delivery is a transaction of its own. */
  async function transactions(): Promise<number> {
    await sql`select pg_stat_force_next_flush()`;
    const [row] = await sql<{ count: number }[]>`
      select xact_commit as count from pg_stat_database where datname = current_database()`;
    return row?.count ?? 0;
  }
});
