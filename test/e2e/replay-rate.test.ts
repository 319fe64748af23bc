/**
 * A replay's limit of events a second holds for everything it sends, whoever sends it: the feed's line, a user
 * with a long backlog, a parked user who catches up.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { type RepeaterProcess, startRepeater, writeKey } from '../support/process.ts';
import { type Inbox, startReceiver } from '../support/receiver.ts';

const perSecond = 100;
const eventsPerUser = 200;
/** A fifth of a second's events may go at once. */
const burst = perSecond / 5;

let database: TestDatabase;
let repeater: RepeaterProcess;
let inbox: Inbox;
let destinationId: string;

before(async () => {
  database = await createTestDatabase();
  repeater = await startRepeater({ DATABASE_URL: database.url });
  inbox = (await startReceiver()).inbox('slow');
  const users = ['ann', 'ben'];
  const batch = Array.from({ length: eventsPerUser }, (_, seq) =>
    users.map((userId) => ({ type: 'track', event: 'Order Completed', userId, properties: { seq } })),
  ).flat();
  const sent = await fetch(`${repeater.address}/v1/batch`, {
    method: 'POST',
    body: JSON.stringify({ writeKey, batch }),
  });
  assert.equal(sent.status, 200, await sent.text());
  const made = { type: 'webhook', name: 'slow', settings: { url: inbox.url } };
  destinationId = (await repeater.admin('POST', '/admin/destinations', made)).id;
});

after(async () => {
  await repeater.kill('SIGTERM');
  await database.drop();
});

async function replayAt(ratePerSecond: number): Promise<string> {
  const { id } = await repeater.admin('POST', '/admin/replays', { destinationId, ratePerSecond });
  await inbox.until(`${id} delivers everything`, () => deliveriesOf(id).length === 2 * eventsPerUser, 60_000);
  return id;
}

const attemptsOf = (id: string) => inbox.attempts.filter(({ replayId }) => replayId === id);
const deliveriesOf = (id: string) =>
  attemptsOf(id).filter(({ answer }) => typeof answer === 'object' && answer?.status === 200);

/** The most attempts in any second. */
function mostInASecond(times: readonly number[]): number {
  let first = 0;
  return times.reduce((most, time, index) => {
    while (time - (times[first] ?? 0) >= 1000) first++;
    return Math.max(most, index - first + 1);
  }, 0);
}

function assertHeld(id: string): void {
  const times = attemptsOf(id).map(({ arrivedAt }) => arrivedAt);
  const seconds = ((times.at(-1) ?? 0) - (times[0] ?? 0)) / 1000;
  assert.ok(seconds >= (times.length - burst) / perSecond - 0.2, `${times.length} in ${seconds} s`);
  // Between the grant and the arrival lies a busy machine.
  assert.ok(mostInASecond(times) <= 1.5 * perSecond + burst, `${mostInASecond(times)} in one second`);
}

test('two users with long backlogs get no more than the limit', async () => {
  assertHeld(await replayAt(perSecond));
});

test('nor does a parked user who catches up', async () => {
  inbox.answer = ({ userId, seq, earlier }) =>
    userId === 'ann' && seq === 0 && earlier < 2 ? { status: 500 } : { status: 200 };
  const id = await replayAt(perSecond);
  assertHeld(id);
  const anns = deliveriesOf(id).filter(({ userId }) => userId === 'ann');
  assert.deepEqual(
    anns.map(({ seq }) => seq),
    Array.from({ length: eventsPerUser }, (_, seq) => seq),
  );
});
