import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as fc from 'fast-check';
import { openPool, type Sql } from '../../src/db/client.ts';
import { readRange } from '../../src/events/read-range.ts';
import type { StoredEvent } from '../../src/events/stored-event.ts';
import {
  canonicalInstant,
  matchesSelection,
  type Selection,
  selectionCondition,
} from '../../src/routing/selection.ts';
import { acceptedEvent, append } from '../support/accepted-events.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

let database: TestDatabase;
let sql: Sql;
let stored: StoredEvent[];

/** Texts that look like SQL, patterns, arrays or each other. */
const texts = [
  "a'); drop table x; --",
  'a',
  'A',
  'ä',
  'ä',
  '%',
  '_',
  '{a,b}',
  '"',
  '\\',
  '',
  ' ',
  'null',
  '\u{FFFD}',
  '💾',
  'u:a',
  '$1',
];
/** What cannot be stored, and is stored as U+FFFD. */
const unstorable = ['\0', '\ud800', 'x\0y', '\udfffz'];
const types = ['identify', 'track', 'page', 'screen', 'group', 'alias'] as const;

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin');
  const kept = fc.constantFrom(...texts, 'x\u{FFFD}y', '\u{FFFD}z');
  const event = fc.record({
    sourceId: fc.integer({ min: 1, max: 3 }),
    type: fc.constantFrom(...types),
    event: fc.option(kept),
    userId: fc.option(kept),
    anonymousId: kept,
  });
  // Groups of seven, so that receivedAt takes many values and some events share one.
  await append(sql, fc.sample(event, { numRuns: 400, seed: 7 }).map(acceptedEvent), 7);
  stored = await readRange(sql, { after: 0, upTo: 1000, limit: 1000 });
  assert.equal(stored.length, 400);
});
after(async () => {
  await sql.end();
  await database.drop();
});

/** The instant of an event or its neighbour by a microsecond, written in several ways. */
const instant = () =>
  fc
    .tuple(fc.nat({ max: 399 }), fc.integer({ min: -1, max: 1 }), fc.boolean())
    .map(([index, shift, noon]) => {
      const at = canonicalInstant((stored[index] as StoredEvent).receivedAt) ?? '';
      if (noon) return `${at.slice(0, 19)}.000000Z`;
      const micros = BigInt(Date.parse(at)) * 1000n + BigInt(at.slice(23, 26)) + BigInt(shift);
      return `${new Date(Number(micros / 1000n)).toISOString().slice(0, -1)}${String(micros % 1000n).padStart(3, '0')}Z`;
    });
const list = <T>(item: fc.Arbitrary<T>) => fc.array(item, { maxLength: 8 });
const fields = {
  from: instant(),
  to: instant(),
  fromPosition: fc.integer({ min: -1, max: 420 }),
  toPosition: fc.integer({ min: -1, max: 420 }),
  sources: list(fc.integer({ min: 0, max: 4 })),
  types: list(fc.constantFrom(...types, ...texts)),
  events: list(fc.constantFrom(...texts, ...unstorable)),
  userIds: list(fc.constantFrom(...texts, ...unstorable)),
};
/** One to three fields at once: with more, hardly any selection holds an event. */
const selection = () =>
  fc
    .subarray(Object.keys(fields) as (keyof typeof fields)[], { minLength: 1, maxLength: 3 })
    .chain((chosen) =>
      fc.record<Selection>(Object.fromEntries(chosen.map((field) => [field, fields[field]]))),
    );

test('the SQL of a selection selects what its predicate does', async () => {
  let nonEmpty = 0;
  await fc.assert(
    fc.asyncProperty(selection(), async (chosen) => {
      const bySql = await sql<{ id: number }[]>`
        select e.id from warehouse.events e where ${selectionCondition(sql, chosen)} order by e.id`;
      const byPredicate = stored.filter((event) => matchesSelection(chosen, event));
      assert.deepEqual(
        bySql.map((row) => row.id),
        byPredicate.map((event) => event.position),
      );
      if (bySql.length > 0) nonEmpty++;
    }),
    { numRuns: 500 },
  );
  assert.ok(nonEmpty > 30, `only ${nonEmpty} selections held anything`);
});

test('a reader filters by the condition, in any order', async () => {
  const chosen: Selection = { types: ['track'], sources: [2] };
  const expected = stored.filter((event) => matchesSelection(chosen, event)).map((event) => event.position);
  const range = { after: 0, upTo: 1000, limit: 20, condition: selectionCondition(sql, chosen) };
  const first = await readRange(sql, range);
  assert.deepEqual(
    first.map((event) => event.position),
    expected.slice(0, 20),
  );
  const last = await readRange(sql, { ...range, order: 'descending' });
  assert.deepEqual(
    last.map((event) => event.position),
    expected.toReversed().slice(0, 20),
  );
});
