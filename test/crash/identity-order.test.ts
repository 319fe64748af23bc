/**
 * Order across identity: devices that are anonymous, then known, shared, handed on and aliased, while the receiver
 * fails and processes are killed. Whatever happens, any two events that share a user id or an anonymous id arrive in
 * the order they were accepted in.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { judge, readStored, violationsOf } from '../support/history.ts';
import { type RepeaterProcess, startRepeater } from '../support/process.ts';
import { type Answer, type Inbox, type Receiver, startReceiver } from '../support/receiver.ts';
import { type Call, chooseSeed, createRandom, Senders } from '../support/senders.ts';

const clients = 8;
const events = 6_000;
const kills = 6;
const usersPerClient = 4;
const devicesPerClient = 6;

const random = createRandom(chooseSeed());
const pick = (count: number) => Math.floor(random() * count);
const killTimes: number[] = [];
const processes = new Map<string, RepeaterProcess>();
let database: TestDatabase;
let sql: Sql;
let receiver: Receiver;
let inbox: Inbox;

const start = async (name: string) =>
  processes.set(
    name,
    await startRepeater({ DATABASE_URL: database.url, ROLE: name.split(' ')[0] as string }),
  );

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin');
  receiver = await startReceiver();
  inbox = receiver.inbox('orders');
  await Promise.all(['api', 'worker 1', 'worker 2'].map(start));
});

after(async () => {
  await Promise.all([...processes.values()].map((each) => each.kill()));
  await receiver.close();
  await sql.end();
  await database.drop();
});

/** Phases of a device: anonymous, identified, both ids on every event, another user on the same device, an alias. */
function draw(client: number): Call {
  const generation = Math.floor(random() * 40);
  const userId = `user-${client}-${pick(usersPerClient)}`;
  const anonymousId = `device-${client}-${generation}-${pick(devicesPerClient)}`;
  const phase = random();
  if (phase < 0.45) return { type: 'page', userId: null, anonymousId };
  if (phase < 0.65) return { type: 'track', userId, anonymousId: null };
  if (phase < 0.8) return { type: 'track', userId, anonymousId };
  if (phase < 0.95) return { type: 'identify', userId, anonymousId };
  return { type: 'alias', userId, anonymousId: null, previousId: anonymousId };
}

function accident(): Answer {
  const chance = random();
  if (chance < 0.02) return { status: 500 };
  if (chance < 0.03) return 'close';
  if (chance < 0.035) return 'hang';
  return { status: 200, ...(chance < 0.2 && { delayMs: 5 + 40 * random() }) };
}

async function killInTurn(): Promise<void> {
  for (let count = 0; count < kills; count++) {
    await sleep(1_000 + 1_500 * random());
    const name = `worker ${1 + (count % 2)}`;
    killTimes.push(performance.now());
    await processes.get(name)?.kill('SIGKILL');
    await start(name);
  }
}

test('events that share a user or a device arrive in the order they were accepted in', async (context) => {
  await (processes.get('api') as RepeaterProcess).admin('POST', '/admin/destinations', {
    type: 'webhook',
    name: 'orders',
    settings: { url: inbox.url, timeoutSeconds: 1 },
    policy: { retry: { initialMs: 50, maxMs: 400 } },
  });
  const addresses = () => [(processes.get('api') as RepeaterProcess).address];
  const senders = new Senders({ addresses, users: [], clients, random, calls: draw });
  inbox.answer = accident;
  const killing = killInTurn();
  await senders.send({ events, perRequest: 4, eventsPerSecond: 500 });
  await killing;

  const wanted = new Set(senders.acknowledged.map(({ messageId }) => messageId));
  await inbox.until(
    'every event is delivered',
    () => {
      const arrived = inbox.attempts.filter(
        ({ answer }) => typeof answer === 'object' && answer?.status === 200,
      );
      return new Set(arrived.map(({ messageId }) => messageId)).size >= wanted.size;
    },
    60_000,
  );
  const stored = await readStored(sql);
  const [row] = await sql<
    { barred: number }[]
  >`select count(barriers)::integer as barred from warehouse.events`;
  const verdict = judge({
    acknowledged: senders.acknowledged,
    stored,
    feeds: [{ name: 'orders', attempts: inbox.attempts }],
    kills: killTimes,
  });
  context.diagnostic(
    `${wanted.size} events, ${row?.barred} with barriers, ${inbox.attempts.length} attempts, ` +
      `${verdict.duplicates} duplicates, ${kills} kills`,
  );
  assert.deepEqual(violationsOf(verdict), {});
  assert.ok((row?.barred ?? 0) > 500, `${row?.barred} barriers`);
});
