/**
 * Postgres ends every session again and again, as it does when it restarts or fails over: no process ends, nothing
 * is lost, and reports of delivery whose answers get lost are not counted twice.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { judge, readStored, violationsOf } from '../support/history.ts';
import { type RepeaterProcess, startRepeater } from '../support/process.ts';
import { type Inbox, type Receiver, startReceiver } from '../support/receiver.ts';
import { chooseSeed, createRandom, Senders } from '../support/senders.ts';

const events = 3_000;
const eventsPerSecond = 400;
const cutEveryMs = 150;

let database: TestDatabase;
let sql: Sql;
let receiver: Receiver;
let inbox: Inbox;
let processes: RepeaterProcess[];

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin', { max: 1, applicationName: 'the test itself' });
  receiver = await startReceiver();
  inbox = receiver.inbox('cut');
  const start = (ROLE: string) => startRepeater({ DATABASE_URL: database.url, ROLE });
  processes = await Promise.all([start('api'), start('worker')]);
});
after(async () => {
  await Promise.all(processes.map((each) => each.kill()));
  await receiver.close();
  await sql.end();
  await database.drop();
});

test('all sessions are cut several times a second: no process ends, all is stored and delivered, once', async (context) => {
  const [api] = processes as [RepeaterProcess];
  await api.admin('POST', '/admin/destinations', {
    type: 'webhook',
    name: 'cut',
    settings: { url: inbox.url },
  });
  const users = Array.from({ length: 100 }, (_, index) => `user-${index}`);
  const random = createRandom(chooseSeed());
  const senders = new Senders({ addresses: () => [api.address], users, clients: 8, random });
  const sent = new AbortController();
  const sending = senders.send({ events, perRequest: 3, eventsPerSecond }).finally(() => sent.abort());
  let cuts = 0;
  while (!sent.signal.aborted) {
    const [row] = await sql<{ cuts: number }[]>`
      select count(pg_terminate_backend(pid))::integer as cuts from pg_stat_activity
      where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()`;
    cuts += row?.cuts ?? 0;
    await sleep(cutEveryMs);
  }
  await sending;
  const delivered = () => new Set(inbox.attempts.map(({ messageId }) => messageId)).size;
  const isDelivered = inbox.until(
    'all is delivered',
    () => delivered() >= senders.acknowledged.length,
    30_000,
  );
  // If it is not, the processes and the verdict say why.
  await isDelivered.catch((error: unknown) => context.diagnostic(String(error)));
  const verdict = judge({
    acknowledged: senders.acknowledged,
    stored: await readStored(sql),
    feeds: [{ name: 'cut', attempts: inbox.attempts }],
  });
  context.diagnostic(
    `${cuts} sessions cut, ${senders.repeats} requests sent again, ${verdict.duplicates} deliveries sent again`,
  );
  for (const { child, output } of processes) assert.equal(child.exitCode, null, output().slice(-2_000));
  assert.deepEqual(violationsOf(verdict), {});
  assert.equal(verdict.duplicates, 0);
  assert.ok(cuts > 30, `only ${cuts} cuts`);
});
