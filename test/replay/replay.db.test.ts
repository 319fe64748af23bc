import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as v from 'valibot';
import * as answers from '../../src/admin/answers.ts';
import { laneOf, userKeyOf } from '../../src/lib/ids.ts';
import { acceptedEvent, append, type EventParts } from '../support/accepted-events.ts';
import { type AdminApp, createAdminApp } from '../support/admin-app.ts';

let app: AdminApp;
const url = 'https://vendor.example/in';

before(async () => {
  app = await createAdminApp();
  await app.call('POST', '/admin/sources', { name: 'web' });
  await app.call('POST', '/admin/sources', { name: 'app' });
  await app.call('POST', '/admin/destinations', { type: 'probe', name: 'one', settings: { url } });
  const names = ['Order Completed', 'Product Viewed', 'Signed Up'];
  const parts: EventParts[] = Array.from({ length: 300 }, (_, index) => ({
    sourceId: 1 + (index % 2),
    userId: `u${index % 10}`,
    event: names[index % 3] as string,
    time: index < 30 ? '2020-01-01T00:00:00Z' : null,
    ...(index % 50 === 0 ? { type: 'page' as const, event: null } : {}),
  }));
  await append(app.sql, parts.map(acceptedEvent), 10);
});
after(async () => app.close());

const preview = (selection: object, rest: object = {}) =>
  app.call('POST', '/admin/replays/preview', { destinationId: 'dst_1', selection, ...rest });
const create = (selection: object, rest: object = {}) =>
  app.call('POST', '/admin/replays', { destinationId: 'dst_1', selection, ...rest });
const feedOf = async (id: string) =>
  (await app.sql`select * from repeater.feeds where id = ${Number(id.slice(4))}`)[0];
const lanesOf = async (id: string) =>
  app.sql`select * from repeater.feed_lanes where feed_id = ${Number(id.slice(4))} order by lane`;
/** What the lanes of a worker would report. */
const finish = (id: string, part: { lane: number; delivered: number }) => app.sql`
  update repeater.feed_lanes set delivered = ${part.delivered} where feed_id = ${Number(id.slice(4))} and lane = ${part.lane}`;

test('preview counts exactly, shows what and whom, and warns', async () => {
  const { status, body } = await preview({}, { ratePerSecond: 60 });
  assert.equal(status, 200, JSON.stringify(body));
  v.parse(answers.preview, body);
  assert.deepEqual(
    [body.total, body.users, body.firstPosition, body.lastPosition, body.estimatedSeconds],
    [300, 10, 1, 300, 5],
  );
  assert.deepEqual(body.byEvent, [
    { type: 'track', event: 'Order Completed', count: 98 },
    { type: 'track', event: 'Product Viewed', count: 98 },
    { type: 'track', event: 'Signed Up', count: 98 },
    { type: 'page', event: null, count: 6 },
  ]);
  assert.deepEqual(
    body.samples.map((each: { position: number }) => each.position),
    [1, 2, 3, 4, 5],
  );
  assert.deepEqual(
    body.warnings.map((words: string) => words.replace(/\d+ of/, 'n of')),
    [
      'n of 300 events are older than 72 hours: Probe refuses or moves them.',
      'n of 300 events are of a type that Probe does not take.',
      'Probe files events under the time they arrive, not their own.',
      'Probe does not recognise repeats: what it already has counts twice.',
      'Probe may ring a bell.',
    ],
  );
  assert.match(body.warnings[0], /^30 of/);
  assert.match(body.warnings[1], /^6 of/);
  assert.equal((await app.sql`select from repeater.feeds where kind = 'replay'`).length, 0);
});

test('preview and creation agree on every kind of selection', async () => {
  const [row] = await app.sql`select received_at as "at" from warehouse.events where id = 151`;
  const at = String(row?.['at']);
  const cases: [object, number][] = [
    [{ events: ['Order Completed'], userIds: ['u1', 'u2'] }, 20],
    [{ sources: ['web'] }, 150],
    [{ sources: ['src_2', 'app'], types: ['track'] }, 150],
    [{ fromPosition: 11, toPosition: 20 }, 10],
    [{ from: at }, 150],
    [{ to: at }, 150],
    [{ userIds: ["u1'; drop table x; --", 'nobody'] }, 0],
    [{ fromPosition: 500 }, 0],
  ];
  for (const [selection, total] of cases) {
    const previewed = (await preview(selection)).body;
    const { status, body } = await create(selection);
    assert.equal(status, 201, JSON.stringify(body));
    v.parse(answers.replay, body);
    assert.deepEqual([previewed.total, body.total], [total, total], JSON.stringify(selection));
  }
});

test('a new replay is frozen between its first and last event, on the lanes that hold some', async () => {
  const { body } = await create(
    { events: ['Signed Up'], toPosition: 1_000_000 },
    { order: 'before-live', ratePerSecond: 7.5 },
  );
  const feed = await feedOf(body.id);
  assert.deepEqual(
    [
      feed?.['kind'],
      feed?.['state'],
      feed?.['listed'],
      feed?.['from_position'],
      feed?.['to_position'],
      feed?.['order'],
    ],
    ['replay', 'running', false, 2, 300, 'before-live'],
  );
  const used = new Set(Array.from({ length: 10 }, (_, index) => laneOf(userKeyOf(`u${index}`, null))));
  for (const lane of await lanesOf(body.id)) {
    assert.equal(lane['cursor'], used.has(lane['lane'] as number) ? 2 : 300, `lane ${lane['lane']}`);
  }
  await append(app.sql, [acceptedEvent({ event: 'Signed Up' })]);
  assert.equal((await app.call('GET', `/admin/replays/${body.id}`)).body.total, 98);
  const { done, ratePerSecond, etaSeconds, selection } = body;
  assert.deepEqual([done, ratePerSecond, etaSeconds], [0, 7.5, Math.ceil(98 / 7.5)]);
  assert.deepEqual(selection, { events: ['Signed Up'], toPosition: 1_000_000 });
});

test('users and dead letters are listed position by position, each once', async () => {
  const listed = async (id: string) =>
    (
      await app.sql<{ position: number }[]>`
      select p.position from repeater.feed_positions p
      join warehouse.events e on e.id = p.position and e.lane = p.lane
      where p.feed_id = ${Number(id.slice(4))} order by 1`
    ).map((row) => row.position);
  const users = (await create({ userIds: ['u3'], toPosition: 300 })).body;
  assert.deepEqual(
    await listed(users.id),
    Array.from({ length: 30 }, (_, index) => 4 + 10 * index),
  );
  assert.equal((await feedOf(users.id))?.['listed'], true);

  const lane = laneOf(userKeyOf('u5', null));
  const letter = (feed: number, position: number, destination = 1) => app.sql`
    insert into repeater.dead_letters (feed_id, position, destination_id, lane, user_key, error, attempts, status)
    values (${feed}, ${position}, ${destination}, ${lane}, 'u:u5', 'refused', 1, 400)`;
  await letter(1, 6);
  await letter(1, 16);
  await letter(Number(users.id.slice(4)), 16);
  await letter(1, 26, 99);
  const previewed = (await preview({ deadLettersOnly: true })).body;
  assert.deepEqual([previewed.total, previewed.firstPosition, previewed.lastPosition], [2, 6, 16]);
  const again = (await create({ deadLettersOnly: true })).body;
  assert.deepEqual([again.total, again.selection], [2, { deadLettersOnly: true }]);
  assert.deepEqual(await listed(again.id), [6, 16]);
  assert.deepEqual(await listed((await create({ deadLettersOnly: true, fromPosition: 10 })).body.id), [16]);
});

test('a replay of nothing is completed at once', async () => {
  const { body } = await create({ events: ['Nothing'] });
  assert.deepEqual([body.state, body.total, body.done, body.etaSeconds], ['completed', 0, 0, 0]);
  assert.ok(body.finishedAt);
  const conflict = await app.call('POST', `/admin/replays/${body.id}/pause`);
  assert.deepEqual([conflict.status, conflict.body.code], [409, 'conflict']);
  assert.match(conflict.body.message, /it is completed/);
});

test('pause, resume, cancel and rate, each again without harm; nothing after the end', async () => {
  const { body } = await create({});
  const act = async (action: string) => app.call('POST', `/admin/replays/${body.id}/${action}`);
  assert.equal((await act('pause')).body.state, 'paused');
  const standing = (await act('pause')).body;
  assert.deepEqual([standing.state, standing.etaSeconds], ['paused', null]);
  assert.equal((await act('resume')).body.state, 'running');
  assert.equal(
    (await app.call('PATCH', `/admin/replays/${body.id}`, { ratePerSecond: 5 })).body.ratePerSecond,
    5,
  );
  assert.equal(
    (await app.call('PATCH', `/admin/replays/${body.id}`, { ratePerSecond: null })).body.ratePerSecond,
    null,
  );
  const cancelled = (await act('cancel')).body;
  assert.equal(cancelled.state, 'cancelled');
  assert.ok(cancelled.finishedAt);
  for (const action of ['pause', 'resume', 'cancel']) assert.equal((await act(action)).status, 409, action);
  assert.equal((await app.call('PATCH', `/admin/replays/${body.id}`, { ratePerSecond: 5 })).status, 409);
  assert.equal(
    (await app.call('POST', '/admin/replays/rpl_1/pause')).status,
    404,
    'a live feed is no replay',
  );
});

test('progress sums the lanes; the newest come first, by destination', async () => {
  const { body } = await create({ toPosition: 300 });
  const [first, second] = [laneOf(userKeyOf('u1', null)), laneOf(userKeyOf('u2', null))];
  await finish(body.id, { lane: first, delivered: 30 });
  await finish(body.id, { lane: second, delivered: 20 });
  await app.sql`update repeater.feed_lanes set dead = 4, filtered = 6 where feed_id = ${Number(body.id.slice(4))} and lane = ${second}`;
  const shown = (await app.call('GET', `/admin/replays/${body.id}`)).body;
  assert.deepEqual([shown.done, shown.delivered, shown.dead, shown.filtered], [60, 50, 4, 6]);
  assert.ok(shown.etaSeconds >= 0);
  const { data, next } = (await app.call('GET', '/admin/replays?limit=2&destinationId=dst_1')).body;
  assert.equal(data[0].id, body.id);
  const more = (await app.call('GET', `/admin/replays?limit=2&cursor=${next}`)).body;
  assert.ok(Number(more.data[0].id.slice(4)) < Number(data[1].id.slice(4)));
  assert.deepEqual((await app.call('GET', '/admin/replays?destinationId=dst_77')).body.data, []);
});

test('unknown destinations and sources, and bounds that hold nothing, are refused', async () => {
  for (const path of ['/admin/replays', '/admin/replays/preview']) {
    assert.equal((await app.call('POST', path, { destinationId: 'dst_99' })).status, 404);
    const refused: [object, string][] = [
      [{ sources: ['nowhere'] }, 'selection.sources'],
      [{ from: '2026-02-01', to: '2026-01-01' }, 'selection.to'],
      [{ fromPosition: 5, toPosition: 4 }, 'selection.toPosition'],
    ];
    for (const [selection, field] of refused) {
      const answer = await app.call('POST', path, { destinationId: 'dst_1', selection });
      assert.deepEqual([answer.status, answer.body.details[0].field], [400, field]);
    }
  }
});

test('counting holds up neither ingest nor delivery', async () => {
  const { promise: held, resolve: release } = Promise.withResolvers<void>();
  const { promise: holding, resolve: isHolding } = Promise.withResolvers<void>();
  // An append that has taken its positions and does not commit.
  const stalled = app.sql.begin(async (tx) => {
    await tx`select pg_advisory_xact_lock(727001001)`;
    isHolding();
    await held;
  });
  await holding;
  const { status } = await create({});
  assert.equal(status, 201);
  release();
  await stalled;
});
