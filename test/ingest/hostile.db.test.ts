/** What was accepted Postgres takes, whole groups of it, and gives back as it was: no event fails its neighbours. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as fc from 'fast-check';
import { openPool, type Sql } from '../../src/db/client.ts';
import { appendEvents, type AcceptedEvent } from '../../src/events/append.ts';
import { keepRejected, type RejectedEvent } from '../../src/events/rejected.ts';
import { maxDepth } from '../../src/ingest/limits.ts';
import { factsOf, normalize } from '../../src/ingest/normalize.ts';
import { parseJson } from '../../src/lib/json.ts';
import { loadEventSchemas } from '../../src/validation/catalogue.ts';
import { createTestDatabase } from '../support/database.ts';
import { hostileBatch, hostileEvent, plainOf } from '../support/hostile-json.ts';

let database: Awaited<ReturnType<typeof createTestDatabase>>;
let sql: Sql;
before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'ingest');
});
after(async () => {
  await sql.end();
  await database.drop();
});

test('hostile events are stored whole or refused alone, and the refused can be kept', async (context) => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  context.diagnostic(`seed ${seed}`);
  const validate = await loadEventSchemas();
  const accepted = new Map<string, AcceptedEvent>();
  const rejected: RejectedEvent[] = [];
  for (const [text, batch] of fc.sample(fc.tuple(hostileEvent, hostileBatch), { numRuns: 3_000, seed })) {
    const parsed = parseJson(Buffer.from(`{"batch":[${text}],"rest":${batch}}`), maxDepth);
    const body = parsed.value as { batch: [unknown]; rest: Record<string, unknown> };
    const result = normalize(body.batch[0], null, factsOf(1, body.rest, parsed), validate);
    if ('event' in result) accepted.set(result.event.messageId, result.event);
    else rejected.push({ sourceId: 1, ...result.refusal });
  }
  const events = [...accepted.values()];
  assert.ok(events.length > 500 && rejected.length > 100, `${events.length} and ${rejected.length}`);
  for (let start = 0; start < events.length; start += 500) {
    const group = events.slice(start, start + 500);
    assert.equal((await appendEvents(sql, group, 48)).stored, group.length);
  }
  await keepRejected(sql, rejected);

  const rows = await sql<
    {
      messageId: string;
      userId: string | null;
      anonymousId: string | null;
      event: string | null;
      text: string;
    }[]
  >`
    select message_id as "messageId", user_id as "userId", anonymous_id as "anonymousId", event, payload::text as text
    from warehouse.events`;
  assert.equal(rows.length, events.length);
  for (const row of rows) {
    const event = accepted.get(row.messageId);
    assert.ok(event, row.messageId);
    assert.deepEqual(
      [row.userId, row.anonymousId, row.event],
      [event.userId, event.anonymousId, event.event],
    );
    assert.deepEqual(plainOf(row.text), plainOf(event.text));
  }
  const [kept] = await sql<{ count: number }[]>`select count(*) as count from warehouse.rejected_events`;
  assert.equal(kept?.count, rejected.length);
});
