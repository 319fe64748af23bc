/**
 * The Node SDKs, unmodified and with nothing set but host and write key, against the real program: what each sends is
 * what is stored, and what it sends again because an answer was lost, came late or never came is stored once.
 */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { after, before, test } from 'node:test';
import { Analytics } from '@segment/analytics-node';
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { type Accident, type HttpProxy, type Json, startHttpProxy } from '../support/http-proxy.ts';
import { type RepeaterProcess, startRepeater, writeKey } from '../support/process.ts';

type Call = Readonly<{ userId: string }> & Json;
type Callback = (error?: Error) => void;

/** What all of them have. */
interface Sdk {
  identify(call: Call, done?: Callback): unknown;
  track(call: Call, done?: Callback): unknown;
  page(call: Call, done?: Callback): unknown;
  screen(call: Call, done?: Callback): unknown;
  group(call: Call, done?: Callback): unknown;
  alias(call: Call, done?: Callback): unknown;
}

interface Made extends Sdk {
  /** Resolves when everything was sent. */
  finish(): Promise<unknown>;
}

const require = createRequire(import.meta.url);

type Construct<Options> = new (
  first: Options,
  second?: object,
) => Sdk & {
  closeAndFlush(): Promise<unknown>;
  flush(): Promise<unknown>;
};

const makers: Readonly<Record<string, (host: string) => Made>> = {
  '@segment/analytics-node': (host) => {
    const sdk = new Analytics({ host, writeKey });
    return bind(sdk as unknown as Sdk, () => sdk.closeAndFlush());
  },
  '@segment/analytics-node 2': (host) => {
    const { Analytics: Second } = require('segment-analytics-node-2') as { Analytics: Construct<object> };
    const sdk = new Second({ host, writeKey });
    return bind(sdk, () => sdk.closeAndFlush());
  },
  'analytics-node 6': (host) => {
    const Legacy = require('analytics-node') as Construct<string>;
    return bindWithCallbacks(new Legacy(writeKey, { host }));
  },
  '@rudderstack/rudder-sdk-node': (host) => {
    const Rudder = require('@rudderstack/rudder-sdk-node') as Construct<string>;
    return bindWithCallbacks(new Rudder(writeKey, { dataPlaneUrl: host }));
  },
};

const names = ['identify', 'track', 'page', 'screen', 'group', 'alias'] as const;

function bind(sdk: Sdk, finish: () => Promise<unknown>): Made {
  return { ...callsOf((name, call) => sdk[name](call)), finish };
}

/** `flush` of the older ones waits for one batch only; their callbacks tell what became of each event. */
function bindWithCallbacks(sdk: Sdk & { flush(): Promise<unknown> }): Made {
  const told: Promise<void>[] = [];
  const calls = callsOf((name, call) => {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    told.push(promise);
    sdk[name](call, (error) => (error ? reject(error) : resolve()));
  });
  return {
    ...calls,
    async finish() {
      await Promise.all([sdk.flush(), ...told]);
    },
  };
}

function callsOf(send: (name: (typeof names)[number], call: Call) => unknown): Sdk {
  return Object.fromEntries(names.map((name) => [name, (call: Call) => send(name, call)])) as unknown as Sdk;
}

let database: TestDatabase;
let sql: Sql;
let repeater: RepeaterProcess;
let proxy: HttpProxy;

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'admin');
  repeater = await startRepeater({ DATABASE_URL: database.url });
  proxy = await startHttpProxy(repeater.address);
});

after(async () => {
  await proxy.close();
  await repeater.kill('SIGTERM');
  await sql.end();
  await database.drop();
});

/** What is stored of a user, in the order of acceptance. */
async function stored(userId: string): Promise<Json[]> {
  const rows = await sql<{ text: string }[]>`
    select payload::text as text from warehouse.events where user_key = ${`u:${userId}`} order by id`;
  return rows.map(({ text }) => JSON.parse(text) as Json);
}

async function untilStored(userId: string, count: number): Promise<Json[]> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    const kept = await stored(userId);
    if (kept.length >= count) return kept;
    assert.ok(performance.now() < deadline, `${kept.length} of ${count} stored`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const properties = {
  'größe 日本': 'é\u202e',
  list: [[], {}, null, 0.1],
  deep: { a: [{ b: [1e-7] }] },
  '': '',
};

for (const [name, make] of Object.entries(makers)) {
  test(`${name}: all six calls are stored as sent`, async () => {
    const from = proxy.passed.length;
    const sdk = make(proxy.url);
    const userId = `six calls of ${name}`;
    sdk.identify({ userId, traits: properties });
    sdk.track({ userId, event: 'Order "Completed"', properties });
    sdk.page({ userId, category: 'Docs', name: 'Home', properties });
    sdk.screen({ userId, name: 'Über uns', properties });
    sdk.group({ userId, groupId: '0', traits: properties });
    sdk.alias({ userId, previousId: 'before' });
    await sdk.finish();
    const kept = await untilStored(userId, 6);
    const sent = proxy.passed.slice(from).flatMap(({ events }) => events);
    assert.deepEqual(
      kept.map(({ type }) => type),
      ['identify', 'track', 'page', 'screen', 'group', 'alias'],
    );
    assert.deepEqual(kept, sent);
    // Were they lost before, the comparison would be worth nothing.
    assert.deepEqual(kept[1]?.['properties'], properties);
  });

  const accidents: Accident[] = ['lose', 'refuse', 'delay', 'lose'];
  test(`${name}: sent again after lost, refused and late answers, stored once`, async () => {
    const from = proxy.passed.length;
    proxy.accidents = [...accidents];
    const sdk = make(proxy.url);
    const userId = `again with ${name}`;
    for (let seq = 0; seq < 30; seq++) sdk.track({ userId, event: 'Counted', properties: { seq } });
    await sdk.finish();
    const kept = await untilStored(userId, 30);
    assert.deepEqual(proxy.accidents, [], 'every accident happened');
    const sent = proxy.passed.slice(from).flatMap(({ events }) => events);
    assert.ok(sent.length > 30, `${sent.length} events reached the program`);
    assert.deepEqual(
      kept.map((event) => (event['properties'] as { seq: number }).seq).toSorted((a, b) => a - b),
      Array.from({ length: 30 }, (_, seq) => seq),
    );
  });
}
