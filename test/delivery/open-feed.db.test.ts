/** What a worker knows of a destination when it sends: settings opened, the customer's limits, what must not be recorded. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createSealer, createSecretReader } from '../../src/config/secrets.ts';
import { loadFeed } from '../../src/delivery/open-feed.ts';
import { loadDestinations, type Catalogue } from '../../src/destinations/catalogue.ts';
import { type AdminApp, createAdminApp, secretKey } from '../support/admin-app.ts';

let app: AdminApp;
let catalogue: Catalogue;
before(async () => {
  app = await createAdminApp();
  catalogue = await loadDestinations();
});
after(() => app.close());

const readSecret = createSecretReader({ sealer: createSealer(secretKey), readEnvironment: () => undefined });
const url = 'https://receiver.example/in';

/** The live feed of a new webhook. */
async function create(settings: object, policy: object = {}) {
  const { status, body } = await app.call('POST', '/admin/destinations', {
    type: 'webhook',
    name: 'hook',
    settings: { url, ...settings },
    policy,
  });
  assert.equal(status, 201, JSON.stringify(body));
  const [feed] = await app.sql<{ id: number }[]>`
    select id from repeater.feeds where destination_id = ${Number(body.id.slice(4))}::integer`;
  return { id: body.id as string, secret: body.settings.secret as string, feedId: feed?.id ?? 0 };
}

test('settings are opened, and every secret among them is known as one', async () => {
  const { feedId, secret } = await create({
    headers: { authorization: 'Bearer CANARY-7f3', 'x-team': 'growth' },
  });
  const feed = await loadFeed(app.sql, feedId, { catalogue, readSecret });
  assert.deepEqual(feed?.outlet.settings['headers'], {
    authorization: 'Bearer CANARY-7f3',
    'x-team': 'growth',
  });
  assert.deepEqual([...(feed?.outlet.secrets ?? [])].sort(), ['Bearer CANARY-7f3', 'growth', secret].sort());
});

test('limits are the customer’s where there are any, else the type’s', async () => {
  const definition = catalogue.get('webhook')?.definition;
  const plain = await loadFeed(app.sql, (await create({})).feedId, { catalogue, readSecret });
  assert.equal(plain?.outlet.concurrency, definition?.limits.concurrency);
  assert.equal(plain?.outlet.timeoutMs, undefined);
  const policy = { concurrency: 3, timeoutMs: 700, retry: { spanMs: 5_000 }, onPermanentFailure: 'block' };
  const chosen = await loadFeed(app.sql, (await create({}, policy)).feedId, { catalogue, readSecret });
  assert.deepEqual([chosen?.outlet.concurrency, chosen?.outlet.timeoutMs], [3, 700]);
  assert.deepEqual([chosen?.retryPolicy.spanMs, chosen?.retryPolicy.initialMs], [5_000, 1_000]);
  assert.equal(chosen?.blocksOnRejection, true);
});

test('a feed of a deleted destination is gone, as one that never was', async () => {
  const { id, feedId } = await create({});
  assert.equal((await app.call('DELETE', `/admin/destinations/${id}`)).status, 204);
  assert.equal(await loadFeed(app.sql, feedId, { catalogue, readSecret }), null);
  assert.equal(await loadFeed(app.sql, 999_999, { catalogue, readSecret }), null);
});
