import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as v from 'valibot';
import * as answers from '../../src/admin/answers.ts';
import { checkSecretKey } from '../../src/admin/secret-key.ts';
import { createSealer, createSecretReader } from '../../src/config/secrets.ts';
import { loadDestination } from '../../src/routing/destinations.ts';
import { acceptedEvent, append } from '../support/accepted-events.ts';
import { type AdminApp, createAdminApp, secretKey } from '../support/admin-app.ts';

let app: AdminApp;
before(async () => {
  app = await createAdminApp();
});
after(async () => app.close());

const url = 'https://vendor.example/in';
const canary = 'CANARY-7f3-abcd';

async function create(settings: object = { url }, rest: object = {}) {
  const { status, body } = await app.call('POST', '/admin/destinations', {
    type: 'probe',
    name: 'Ours',
    settings,
    ...rest,
  });
  assert.equal(status, 201, JSON.stringify(body));
  v.parse(answers.destination, body);
  return body;
}

const load = (id: string) =>
  loadDestination(
    app.sql,
    Number(id.slice(4)),
    createSecretReader({
      sealer: createSealer(secretKey),
      readEnvironment: (name) => app.environment.get(name),
    }),
  );

/** Everything the database holds, as text. */
async function dump(): Promise<string> {
  const tables = await app.sql<{ name: string }[]>`
    select format('%I.%I', table_schema, table_name) as name from information_schema.tables
    where table_schema in ('repeater', 'warehouse', 'graphile_worker') and table_type = 'BASE TABLE'`;
  const rows = await Promise.all(tables.map(({ name }) => app.sql.unsafe(`select t::text from ${name} t`)));
  return JSON.stringify(rows);
}

test('types are listed with their schema', async () => {
  const { body } = await app.call('GET', '/admin/destination-types');
  v.parse(answers.listOf(answers.destinationType), body);
  assert.equal(body.data[0].slug, 'probe');
  assert.equal(body.data[0].settingsSchema.properties.apiKey.writeOnly, true);
});

test('a new destination has defaults, a live feed at the head, and shows a generated secret once', async () => {
  const head = await append(app.sql, [acceptedEvent(), acceptedEvent()]);
  const made = await create();
  assert.deepEqual(
    [made.id, made.type, made.name, made.enabled, made.state, made.pausedReason, made.policy],
    ['dst_1', 'probe', 'Ours', true, 'active', null, {}],
  );
  assert.match(made.settings.signingSecret, /^whsec_.{32}$/);
  const shown = (await app.call('GET', '/admin/destinations/dst_1')).body;
  assert.equal(shown.settings.signingSecret, `••••${made.settings.signingSecret.slice(-4)}`);
  const feeds = await app.sql`select kind, state, from_position, to_position from repeater.feeds`;
  assert.deepEqual([...feeds], [{ kind: 'live', state: 'running', from_position: head, to_position: null }]);
  const loaded = await load(made.id);
  assert.equal(loaded?.settings['signingSecret'], made.settings.signingSecret);
});

test('one that starts from the beginning has its cursors at zero and its lanes awake', async () => {
  const { id } = await create(
    { url },
    { startFrom: 'beginning', enabled: false, policy: { concurrency: 3 } },
  );
  const lanes = await app.sql`
    select l.cursor, l.awake from repeater.feed_lanes l join repeater.feeds f on f.id = l.feed_id
    where f.destination_id = ${Number(id.slice(4))}`;
  assert.equal(lanes.length, 32);
  assert.ok(lanes.every((lane) => lane['cursor'] === 0 && lane['awake'] === true));
  const { body } = await app.call('GET', `/admin/destinations/${id}`);
  assert.deepEqual([body.state, body.policy], ['disabled', { concurrency: 3 }]);
});

test('settings are checked by the type’s schema and addresses by the rules', async () => {
  const cases: [object, string, RegExp][] = [
    [{ type: 'nothing', settings: { url } }, 'type', /one of probe/],
    [{ settings: {} }, 'settings.url', /present/],
    [{ settings: { url: 'no address' } }, 'settings.url', /uri/],
    [{ settings: { url, label: 'x'.repeat(30) } }, 'settings.label', /20/],
    [{ settings: { url, colour: 'red' } }, 'settings.colour', /no field of this name/],
    [{ settings: { url }, policy: { concurrency: 0 } }, 'policy.concurrency', /1/],
    [{ settings: { url }, policy: { retry: { spanMs: 'long' } } }, 'policy.retry.spanMs', /number/],
  ];
  for (const [body, field, expected] of cases) {
    const answer = await app.call('POST', '/admin/destinations', { type: 'probe', name: 'x', ...body });
    assert.equal(answer.status, 400, field);
    assert.equal(answer.body.details[0].field, field);
    assert.match(answer.body.details[0].expected, expected);
  }
  const several = await app.call('POST', '/admin/destinations', {
    type: 'probe',
    name: 'x',
    settings: { colour: 'red', label: 5 },
  });
  assert.deepEqual(
    new Set(several.body.details.map((problem: { field: string }) => problem.field)),
    new Set(['settings.url', 'settings.colour', 'settings.label']),
  );
  const blocked = await app.call('POST', '/admin/destinations', {
    type: 'probe',
    name: 'x',
    settings: { url: 'http://private.example' },
  });
  assert.deepEqual([blocked.status, blocked.body.code], [400, 'blocked_address']);
  const moved = await app.call('PATCH', '/admin/destinations/dst_1', {
    settings: { url: 'http://private.example' },
  });
  assert.equal(moved.body.code, 'blocked_address');
});

test('a secret is in no answer, no refusal and no table', async () => {
  const made = await create({ url, apiKey: canary, headers: { authorization: `${canary}-2` } });
  const refused = await app.call('PATCH', `/admin/destinations/${made.id}`, {
    settings: { apiKey: `${canary} !` },
  });
  assert.equal(refused.body.details[0].field, 'settings.apiKey');
  const said = [
    made,
    refused.body,
    (await app.call('GET', `/admin/destinations/${made.id}`)).body,
    (await app.call('GET', '/admin/destinations')).body,
    (await app.call('PATCH', `/admin/destinations/${made.id}`, { name: 'Renamed' })).body,
    (await app.call('GET', `/admin/destinations/${made.id}/status`)).body,
    (await app.call('POST', '/admin/sql', { query: 'table repeater.destinations' })).body,
  ];
  assert.doesNotMatch(JSON.stringify(said), /CANARY/);
  assert.equal(made.settings.apiKey, '••••abcd');
  assert.doesNotMatch(await dump(), /CANARY/);
  assert.deepEqual((await load(made.id))?.settings, {
    url,
    apiKey: canary,
    headers: { authorization: `${canary}-2` },
    signingSecret: (await load(made.id))?.settings['signingSecret'],
  });
});

test('a change keeps secrets that are absent or masked, merges the rest, and moves the version', async () => {
  const { id } = await create({ url, apiKey: canary, label: 'one' });
  const before = await load(id);
  const masked = (await app.call('GET', `/admin/destinations/${id}`)).body;
  const { status, body } = await app.call('PATCH', `/admin/destinations/${id}`, {
    settings: { ...masked.settings, label: 'two' },
    policy: { retry: { spanMs: 1000 } },
  });
  assert.equal(status, 200, JSON.stringify(body));
  await app.call('PATCH', `/admin/destinations/${id}`, { policy: { retry: { maxMs: 50 }, concurrency: 2 } });
  const changed = await load(id);
  assert.deepEqual(changed?.settings, { ...before?.settings, label: 'two' });
  assert.deepEqual(changed?.policy, { retry: { spanMs: 1000, maxMs: 50 }, concurrency: 2 });
  assert.equal(changed?.version, (before?.version ?? 0) + 2);
  await app.call('PATCH', `/admin/destinations/${id}`, { settings: { label: null, apiKey: 'another-key' } });
  const { label: _, ...rest } = before?.settings ?? {};
  assert.deepEqual((await load(id))?.settings, { ...rest, apiKey: 'another-key' });
});

test('references are kept as such, resolved for delivery, and must be set', async () => {
  const refused = await app.call('POST', '/admin/destinations', {
    type: 'probe',
    name: 'x',
    settings: { url, apiKey: 'env:VENDOR_KEY' },
  });
  assert.deepEqual([refused.status, refused.body.details[0].field], [400, 'settings.apiKey']);
  app.environment.set('VENDOR_KEY', canary);
  app.environment.set('SECRET_KEY', secretKey);
  const { id, settings } = await create({ url, apiKey: 'env:VENDOR_KEY' });
  assert.equal(settings.apiKey, 'env:VENDOR_KEY');
  assert.equal((await load(id))?.settings['apiKey'], canary);
  const own = await app.call('PATCH', `/admin/destinations/${id}`, {
    settings: { apiKey: 'env:SECRET_KEY' },
  });
  assert.equal(own.status, 400);
});

test('a sealed text that was moved to another destination does not open', async () => {
  const [one, other] = [await create({ url, apiKey: canary }), await create({ url, apiKey: 'of-the-other' })];
  await app.sql`
    update repeater.destinations d set secrets = o.secrets from repeater.destinations o
    where d.id = ${Number(one.id.slice(4))} and o.id = ${Number(other.id.slice(4))}`;
  await assert.rejects(load(one.id), { name: 'SealError' });
  assert.equal((await app.call('GET', `/admin/destinations/${one.id}`)).body.settings.apiKey, '••••');
});

test('a webhook: a secret made for it, shown once, and headers that stay hidden', async () => {
  const settings = { url, headers: { authorization: `Bearer ${canary}` } };
  const { body: made } = await app.call('POST', '/admin/destinations', {
    type: 'webhook',
    name: 'hook',
    settings,
  });
  assert.match(made.settings.secret, /^whsec_/);
  assert.equal(made.settings.headers, '••••');
  const { body: shown } = await app.call('GET', `/admin/destinations/${made.id}`);
  const { status } = await app.call('PATCH', `/admin/destinations/${made.id}`, { settings: shown.settings });
  assert.equal(status, 200);
  assert.deepEqual((await load(made.id))?.settings, { ...settings, secret: made.settings.secret });
  const bad = await app.call('PATCH', `/admin/destinations/${made.id}`, {
    settings: { headers: { a: `${canary}\r\nb: c` } },
  });
  assert.deepEqual([bad.status, bad.body.details[0].field], [400, 'settings.headers.a']);
  assert.doesNotMatch(JSON.stringify([made, shown, bad.body]), /CANARY/);
});

test('enabling ends a pause; disabling shows', async () => {
  const { id } = await create();
  await app.sql`select repeater.pause_destination(${Number(id.slice(4))}, '401 Unauthorized')`;
  const paused = (await app.call('GET', `/admin/destinations/${id}`)).body;
  assert.deepEqual([paused.state, paused.pausedReason], ['paused', '401 Unauthorized']);
  assert.equal((await app.call('PATCH', `/admin/destinations/${id}`, { name: 'n' })).body.state, 'paused');
  const enabled = (await app.call('PATCH', `/admin/destinations/${id}`, { enabled: true })).body;
  assert.deepEqual([enabled.state, enabled.pausedReason, enabled.pausedAt], ['active', null, null]);
  assert.equal(
    (await app.call('PATCH', `/admin/destinations/${id}`, { enabled: false })).body.state,
    'disabled',
  );
});

test('a deleted destination is gone from the API, its feeds cancelled, its secrets forgotten', async () => {
  const { id } = await create({ url, apiKey: canary });
  assert.equal((await app.call('DELETE', `/admin/destinations/${id}`)).status, 204);
  for (const [method, path] of [
    ['GET', ''],
    ['PATCH', ''],
    ['DELETE', ''],
    ['GET', '/status'],
  ] as const) {
    assert.equal(
      (await app.call(method, `/admin/destinations/${id}${path}`, method === 'PATCH' ? {} : undefined))
        .status,
      404,
    );
  }
  const list = (await app.call('GET', '/admin/destinations')).body.data;
  assert.ok(list.every((each: { id: string }) => each.id !== id));
  const [row] = await app.sql`
    select d.secrets, d.deleted_at is not null as deleted, f.state from repeater.destinations d
    join repeater.feeds f on f.destination_id = d.id where d.id = ${Number(id.slice(4))}`;
  assert.deepEqual({ ...row }, { secrets: {}, deleted: true, state: 'cancelled' });
});

test('the key of an installation is checked at the start, and rotation seals anew', async () => {
  await app.sql`delete from repeater.destinations d where not exists (select from repeater.feeds f where f.destination_id = d.id)`;
  const { id } = await create({ url, apiKey: canary });
  // The test above left a destination whose secret cannot be opened.
  await app.sql`update repeater.destinations set secrets = '{}' where id <> ${Number(id.slice(4))}`;
  await checkSecretKey(app.sql, createSealer(secretKey));
  await assert.rejects(
    checkSecretKey(app.sql, createSealer('another key of enough length')),
    /SECRET_KEY is not the key/,
  );
  await checkSecretKey(app.sql, createSealer(`another key of enough length,${secretKey}`));
  const rotated = createSealer('another key of enough length');
  await checkSecretKey(app.sql, rotated);
  const read = createSecretReader({ sealer: rotated, readEnvironment: () => undefined });
  assert.equal((await loadDestination(app.sql, Number(id.slice(4)), read))?.settings['apiKey'], canary);
});
