/**
 * A new process takes over while clients send that never send anything twice: no connection is refused, no request
 * lost, no order broken; a new process that does not start harms nobody; and the first process stands for all later
 * ones towards whoever watches it.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { judge, readStored, type SentEvent, violationsOf } from '../support/history.ts';
import { main, type RepeaterProcess, startRepeater, writeKey } from '../support/process.ts';
import { type Inbox, startReceiver } from '../support/receiver.ts';

const reloads = 5;
/** A plain restart was measured at 0.5 s; a busy machine may take its time. */
const longestRestartMs = 3_000;

let database: TestDatabase;
let sql: Sql;
let repeater: RepeaterProcess;
let inbox: Inbox;

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin');
  repeater = await startRepeater({ DATABASE_URL: database.url });
  inbox = (await startReceiver()).inbox('orders');
  await repeater.admin('POST', '/admin/destinations', {
    type: 'webhook',
    name: 'orders',
    settings: { url: inbox.url },
  });
});

after(async () => {
  await repeater.kill('SIGTERM');
  await sql.end();
  await database.drop();
});

const seen = (words: string) => repeater.output().split(words).length - 1;
const served = 'reload: a new process serves';

/** Resolves when the log has the words as many times. */
async function untilSeen(words: string, times: number): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (seen(words) < times) {
    assert.ok(performance.now() < deadline, `"${words}" ${seen(words)} times`);
    await sleep(20);
  }
}

/** The process that serves. */
function servingPid({ output } = repeater): number {
  return Number([...output().matchAll(/"pid":(\d+),"msg":"reload: a new process serves/g)].at(-1)?.[1]);
}

interface Client {
  readonly name: string;
  /** Null: a fresh connection for each request. */
  readonly agent: Agent | null;
  /** Between two requests, so that a connection is idle when the server process changes. */
  readonly pauseMs: number;
}

/** One request, sent once. @throws whatever becomes of it but 200 */
async function post({ agent }: Client, event: object): Promise<void> {
  const sent = request(`${repeater.address}/v1/track`, {
    method: 'POST',
    agent: agent ?? false,
    headers: { 'content-type': 'application/json' },
  });
  sent.end(JSON.stringify({ writeKey, ...event }));
  const [response] = (await once(sent, 'response')) as [import('node:http').IncomingMessage];
  assert.equal(`${response.statusCode} ${await text(response)}`, '200 {"success":true}');
}

/** Sends a user's events one after the other until told to stop. */
async function run(client: Client, stop: AbortSignal, acknowledged: SentEvent[]): Promise<void> {
  const userId = client.name;
  for (let seq = 1; !stop.aborted; seq++) {
    const event = { messageId: `${userId}-${seq}`, userId, properties: { seq } };
    await post(client, { event: 'Counted', ...event });
    acknowledged.push({ ...event, anonymousId: null, seq });
    if (client.pauseMs > 0) await sleep(client.pauseMs);
  }
}

test('five reloads: nothing refused, nothing failed, stored once, delivered in order', async (context) => {
  const clients: Client[] = Array.from({ length: 8 }, (_, index) => ({
    name: `client ${index}`,
    agent: index % 2 === 0 ? new Agent({ keepAlive: true, maxSockets: 1 }) : null,
    pauseMs: index < 4 ? 0 : 30 * index,
  }));
  const stop = new AbortController();
  const acknowledged: SentEvent[] = [];
  const running = clients.map((client) => run(client, stop.signal, acknowledged));
  // A client that fails ends the test at once and not after the reloads.
  const failed = Promise.all(running);
  failed.catch(() => stop.abort());

  for (let count = 1; count <= reloads && !stop.signal.aborted; count++) {
    await sleep(300);
    if (count % 2 === 0) repeater.child.kill('SIGHUP');
    else await repeater.admin('POST', '/admin/reload');
    await untilSeen(served, count);
  }
  await sleep(300);
  stop.abort();
  await failed;
  for (const { agent } of clients) agent?.destroy();

  assert.ok(acknowledged.length > 500, `${acknowledged.length} requests`);
  const all = new Set(acknowledged.map(({ messageId }) => messageId));
  const delivered = () =>
    new Set(inbox.attempts.filter((each) => each.endedAt !== null).map((each) => each.messageId));
  await inbox.until('everything is delivered', () => delivered().size >= all.size);
  const verdict = judge({
    acknowledged,
    stored: await readStored(sql),
    feeds: [{ name: 'orders', attempts: inbox.attempts }],
  });
  context.diagnostic(
    `${acknowledged.length} requests over ${reloads} reloads, ${verdict.duplicates} delivered twice`,
  );
  assert.deepEqual(violationsOf(verdict), {});
  assert.equal(verdict.duplicates, 0, 'an orderly hand-over repeats nothing');
});

test('a second reload while one runs is refused', async () => {
  const before = seen(served);
  const both = await Promise.allSettled([
    repeater.admin('POST', '/admin/reload'),
    repeater.admin('POST', '/admin/reload'),
  ]);
  assert.deepEqual(both.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected']);
  const refused = both.find((each) => each.status === 'rejected');
  assert.match(String(refused?.reason), /409 .*"code":"conflict"/);
  assert.equal(seen(served), before + 1);
});

test('a new process that cannot start leaves the one before serving, and says why', async () => {
  const before = seen(served);
  const [kept] = await sql`
    update repeater.settings set value = 'v1.broken' where name = 'secret_key_check' returning value`;
  assert.ok(kept);
  const failure = await repeater.admin('POST', '/admin/reload').then(
    () => assert.fail('it started'),
    (error: Error) => error.message,
  );
  assert.match(failure, /500 .*"code":"reload_failed","message":"Repeater could not start: .*SECRET_KEY/);
  assert.match(repeater.output(), /"reason":"Repeater could not start: [^\n]*the one before goes on/);
  assert.equal(seen(served), before);
  await post({ name: '', agent: null, pauseMs: 0 }, { userId: 'after', event: 'Still there' });

  await sql`delete from repeater.settings where name = 'secret_key_check'`;
  await repeater.admin('POST', '/admin/reload');
  assert.equal(seen(served), before + 1);
});

test('the first process ends with the one that serves, and that one with the first', async () => {
  const other = await startRepeater({ DATABASE_URL: database.url });
  await other.admin('POST', '/admin/reload');
  process.kill(servingPid(other), 'SIGKILL');
  assert.deepEqual(await once(other.child, 'exit'), [137, null]);

  const last = servingPid();
  assert.ok(isAlive(last));
  await repeater.kill('SIGKILL');
  const deadline = performance.now() + 10_000;
  while (isAlive(last)) {
    assert.ok(performance.now() < deadline, 'a process that nobody can stop goes on');
    await sleep(20);
  }
  repeater = await startRepeater({ DATABASE_URL: database.url });
});

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test('with the embedded database: it outlives the first server, is stopped with the last, and holds everything', async (context) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'repeater-reload-'));
  context.after(() => rm(dataDir, { recursive: true, force: true }));
  const count = async (of: RepeaterProcess) =>
    (await of.admin('POST', '/admin/sql', { query: 'select count(*)::int as n from warehouse.events' })) as {
      rows: unknown[][];
    };
  const send = (to: RepeaterProcess, event: string) =>
    fetch(`${to.address}/v1/track`, {
      method: 'POST',
      body: JSON.stringify({ writeKey, userId: 'u', event }),
    });
  const first = await startRepeater({ DATA_DIR: dataDir });
  assert.equal((await send(first, 'one')).status, 200);
  execFileSync(process.execPath, [main, 'reload'], {
    env: { DATA_DIR: dataDir, ADMIN_TOKEN: 'rpt_token-of-the-process-tests' },
  });
  assert.equal((await send(first, 'two')).status, 200);
  await first.kill('SIGTERM');
  assert.equal(first.child.exitCode, 0);

  const again = await startRepeater({ DATA_DIR: dataDir });
  assert.doesNotMatch(again.output(), /adopted/);
  assert.deepEqual((await count(again)).rows, [[2]]);
  await again.kill('SIGTERM');
});

test('a plain restart over an external database is short', async (context) => {
  await repeater.kill('SIGTERM');
  const from = performance.now();
  repeater = await startRepeater({ DATABASE_URL: database.url });
  assert.equal((await fetch(`${repeater.address}/readyz`)).status, 200);
  const tookMs = performance.now() - from;
  context.diagnostic(`${Math.round(tookMs)} ms from the end of one process to the readiness of the next`);
  assert.ok(tookMs < longestRestartMs, `${tookMs} ms`);
});
