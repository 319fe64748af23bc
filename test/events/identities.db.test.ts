/**
 * Who an event belongs to and whom it waits for, as the append decides it. The contract: an event comes after every
 * earlier one that shares its user id or its anonymous id, by the order of a user key or by a barrier.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as fc from 'fast-check';
import { openPool, type Sql } from '../../src/db/client.ts';
import { appendEvents, type EventType } from '../../src/events/append.ts';
import { laneOf } from '../../src/lib/ids.ts';
import { acceptedEvent } from '../support/accepted-events.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';

interface Stored {
  id: number;
  type: string;
  lane: number;
  userId: string | null;
  anonymousId: string | null;
  userKey: string;
  barriers: [userKey: string, position: number][] | null;
}

let database: TestDatabase;
let sql: Sql;
before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'ingest');
});
after(async () => {
  await sql.end();
  await database.drop();
});

type Ids = [userId: string | null, anonymousId: string | null, previousId?: string];

function event([userId, anonymousId, previousId]: Ids, messageId?: string) {
  const type: EventType = previousId === undefined ? 'track' : 'alias';
  return {
    ...acceptedEvent({ userId, anonymousId, type, ...(messageId !== undefined && { messageId }) }),
    previousId: previousId ?? null,
  };
}

/** Appends the groups and returns what was stored, in order. */
async function store(...groups: Ids[][]): Promise<Stored[]> {
  let first = Infinity;
  for (const group of groups) {
    const { lastPosition } = await appendEvents(
      sql,
      group.map((ids) => event(ids)),
      48,
    );
    first = Math.min(first, (lastPosition ?? 0) - group.length + 1);
  }
  return sql<Stored[]>`
    select id, type, lane, user_id as "userId", anonymous_id as "anonymousId", user_key as "userKey", barriers
    from warehouse.events where id >= ${first} order by id`;
}

const shape = (events: readonly Stored[]) => {
  const first = events[0]?.id ?? 0;
  return events.map(({ userKey, barriers }) => [
    userKey,
    ...(barriers ?? []).map(([key, position]) => `${key}@${position - first}`),
  ]);
};

test('an identify takes the anonymous id along, after what came before', async () => {
  const events: Ids[] = [
    [null, 'a1'],
    [null, 'a1'],
    ['u1', 'a1'],
    [null, 'a1'],
    ['u1', null],
  ];
  const expected = [['a:a1'], ['a:a1'], ['u:u1', 'a:a1@1'], ['u:u1'], ['u:u1']];
  const inOne = await store(events);
  assert.deepEqual(shape(inOne), expected, 'in one group');
  const renamed = events.map(([user, anonymous]) => [user && 'u2', anonymous && 'a2'] as Ids);
  const apart = await store(...renamed.map((ids) => [ids]));
  assert.deepEqual(
    shape(apart),
    expected.map((keys) => keys.map((key) => key.replace('u1', 'u2').replace('a1', 'a2'))),
    'one by one',
  );
  for (const { userKey, lane } of [...inOne, ...apart]) assert.equal(lane, laneOf(userKey), userKey);
});

test('a known pair costs no barrier, and neither does one that nothing came before', async () => {
  const stored = await store([['u3', 'a3']], [['u3', 'a3']], [['u3', null]]);
  assert.deepEqual(shape(stored), [['u:u3'], ['u:u3'], ['u:u3']]);
});

test('a shared device is handed from user to user and back', async () => {
  const stored = await store(
    [['u4', 'kiosk']],
    [
      ['u5', 'kiosk'],
      [null, 'kiosk'],
    ],
    [['u4', 'kiosk']],
  );
  assert.deepEqual(shape(stored), [['u:u4'], ['u:u5', 'u:u4@0'], ['u:u5'], ['u:u4', 'u:u5@2']]);
});

test('an alias waits for both the anonymous id and the user of that name, and binds it', async () => {
  const stored = await store([
    [null, 'old'],
    ['old', null],
    ['new', null, 'old'],
    [null, 'old'],
  ]);
  assert.deepEqual(shape(stored), [['a:old'], ['u:old'], ['u:new', 'a:old@0', 'u:old@1'], ['u:new']]);
});

test('a repeat binds nothing: a late duplicate cannot hand a device back', async () => {
  await appendEvents(sql, [event(['u6', 'a6'], 'first'), event(['u7', 'a6'], 'second')], 48);
  await appendEvents(sql, [event(['u6', 'a6'], 'first')], 48);
  const [row] = await sql`select user_id, position, lane from warehouse.identities where anonymous_id = 'a6'`;
  assert.deepEqual([row?.['user_id'], row?.['lane']], ['u7', laneOf('u:u7')]);
  assert.deepEqual(shape(await store([[null, 'a6']])), [['u:u7']]);
});

test('a user in SQL has its devices, its span and the latest of each trait', async () => {
  const identify = (userId: string, anonymousId: string | null, payload: object) => ({
    ...event([userId, anonymousId]),
    type: 'identify' as const,
    event: null,
    text: JSON.stringify({ type: 'identify', userId, ...payload }),
  });
  await store([[null, 'phone']]);
  await appendEvents(
    sql,
    [
      identify('ann', 'phone', { traits: { plan: 'free', name: 'Ann' } }),
      identify('ann', 'laptop', {
        traits: { plan: 'pro' },
        context: { traits: { plan: 'none', city: 'Graz' } },
      }),
      identify('ann', null, { traits: 'rubbish' }),
    ],
    48,
  );
  await store([[null, 'laptop']]);
  const [ann] = await sql`
    select id, anonymous_ids as devices, events, traits, first_seen < last_seen as spans
    from warehouse.users where user_key = 'u:ann'`;
  assert.deepEqual(
    { ...ann },
    {
      id: 'ann',
      devices: ['laptop', 'phone'],
      events: 4,
      traits: { plan: 'pro', name: 'Ann', city: 'Graz' },
      spans: true,
    },
  );
});

test('whatever the history, every event follows the earlier ones that share an id', async () => {
  let run = 0;
  const id = (prefix: string) =>
    fc.option(
      fc.integer({ min: 0, max: 2 }).map((n) => `${prefix}${n}`),
      { nil: null },
    );
  const ids = fc
    .tuple(id('u'), id('d'), fc.boolean())
    .filter(([user, device]) => user !== null || device !== null)
    .map(([user, device, alias]): Ids =>
      alias && user !== null && device !== null ? [user, null, device] : [user, device],
    );
  const history = fc.array(fc.array(ids, { minLength: 1, maxLength: 6 }), { minLength: 1, maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(history, async (groups) => {
      const name = `r${run++}-`;
      const stored = await store(
        ...groups.map((group) => group.map((each) => each.map((part) => (part ? name + part : part)) as Ids)),
      );
      assertFollows(stored);
    }),
    { numRuns: 150 },
  );
});

/** Brute force: what an event waits for, directly or through others, holds every earlier event that shares an id. */
function assertFollows(stored: readonly Stored[]): void {
  const after = new Map<number, Set<number>>();
  for (const each of stored) {
    const waitsFor = new Set<number>();
    const add = (position: number | undefined) => {
      if (position === undefined) return;
      waitsFor.add(position);
      for (const further of after.get(position) ?? []) waitsFor.add(further);
    };
    const earlier = stored.filter((other) => other.id < each.id);
    add(earlier.findLast((other) => other.userKey === each.userKey)?.id);
    for (const [key, position] of each.barriers ?? []) {
      assert.ok(position < each.id);
      add(earlier.findLast((other) => other.userKey === key && other.id <= position)?.id);
    }
    after.set(each.id, waitsFor);
    for (const other of earlier) {
      const shares =
        (each.userId !== null && other.userId === each.userId) ||
        (each.anonymousId !== null && other.anonymousId === each.anonymousId);
      if (shares)
        assert.ok(
          waitsFor.has(other.id),
          `${JSON.stringify(each)} does not wait for ${JSON.stringify(other)}`,
        );
    }
  }
}
