/** What an event says of its destinations holds on every way to one: in a lane, apart from it after a failure, in a replay. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPool, type Sql } from '../../src/db/client.ts';
import type { AcceptedEvent } from '../../src/events/append.ts';
import { acceptedEvent, append } from '../support/accepted-events.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { createLiveFeed, startReplay, untilTrue } from '../support/feeds.ts';
import { delivered, failed, scriptedType, startWorker, type TestWorker } from '../support/worker.ts';

let database: TestDatabase;
let sql: Sql;
let worker: TestWorker;
/** Users whose next call fails, once. */
const failing = new Set<string>();

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin');
  worker = await startWorker(database.url, {
    script: ({ event }) => (failing.delete(event.userId ?? '') ? failed : delivered),
    sweeps: true,
  });
});
after(async () => {
  await worker.stop();
  await sql.end();
  await database.drop();
});

/** Its destination is called `of a test`, its type `Scripted`, the type's slug `scripted`. */
const told: [integrations: unknown, goes: boolean][] = [
  [undefined, true],
  [{}, true],
  [{ All: false }, false],
  [{ All: false, 'of a test': { option: 1 } }, true],
  [{ 'of a test': false }, false],
  [{ Scripted: false }, false],
  [{ scripted: false }, false],
  [{ 'Of A Test': false, SCRIPTED: false }, true],
  [{ All: false, Scripted: true }, true],
  [{ All: true }, true],
];

function eventsOf(userId: string): AcceptedEvent[] {
  return told.map(([integrations, goes], index) => {
    const event = acceptedEvent({ userId, messageId: `${userId}-${index}-${goes ? 'goes' : 'stays'}` });
    const payload = JSON.parse(event.text) as Record<string, unknown>;
    return {
      ...event,
      text: JSON.stringify({ ...payload, ...(integrations === undefined ? {} : { integrations }) }),
    };
  });
}

const wanted = (userId: string) =>
  eventsOf(userId).flatMap(({ messageId }) => (messageId.endsWith('goes') ? [messageId] : []));

function sent(userId: string, replays: boolean): string[] {
  return worker.calls
    .filter(
      ({ event, replayId, outcome }) =>
        event.userId === userId && (replayId !== null) === replays && outcome === delivered,
    )
    .map(({ event }) => event.messageId);
}

test('in a lane, after a failure and in a replay only those are sent that may be; the others count as filtered', async () => {
  const feed = await createLiveFeed(sql, scriptedType);
  const users = ['straight', 'stumbling'];
  failing.add('stumbling');
  await append(sql, users.flatMap(eventsOf));
  const stays = told.filter(([, goes]) => !goes).length;
  const filtered = async (feedId: number) => {
    const [row] = await sql<{ filtered: number }[]>`
      select sum(filtered)::bigint as filtered from repeater.feed_lanes where feed_id = ${feedId}`;
    return row?.filtered;
  };
  await untilTrue(
    'all are filtered',
    async () => (await filtered(feed.feedId)) === users.length * stays,
    30_000,
  );
  await untilTrue(
    'all are sent',
    () => users.every((user) => sent(user, false).length === wanted(user).length),
    30_000,
  );
  for (const user of users) assert.deepEqual(sent(user, false), wanted(user));

  const replay = await startReplay(sql, feed.destinationId);
  await untilTrue(
    'the replay is done',
    async () => (await filtered(replay)) === users.length * stays,
    30_000,
  );
  await untilTrue(
    'all are sent again',
    () => users.every((user) => sent(user, true).length === wanted(user).length),
    30_000,
  );
  for (const user of users) assert.deepEqual(sent(user, true), wanted(user));
});
