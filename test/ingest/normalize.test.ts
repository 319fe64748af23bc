/**
 * From what a client sent to what is stored: nothing is lost, nothing is added but what is missing, and what has
 * been stored goes through the door again unchanged.
 */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import * as fc from 'fast-check';
import type { AcceptedEvent } from '../../src/events/append.ts';
import { maxDepth, maxEventBytes, maxKeyLength, maxKeys, maxStringLength } from '../../src/ingest/limits.ts';
import { factsOf, normalize, type Refusal } from '../../src/ingest/normalize.ts';
import { laneOf } from '../../src/lib/ids.ts';
import { parseJson } from '../../src/lib/json.ts';
import { loadEventSchemas, type EventValidator } from '../../src/validation/catalogue.ts';
import { hostileBatch, hostileEvent, jsonText, plainOf } from '../support/hostile-json.ts';

let validate: EventValidator;
before(async () => {
  validate = await loadEventSchemas();
});

interface Around {
  /** The call named by the path. */
  readonly call?: string;
  /** What else the body of the batch holds, as JSON. */
  readonly batch?: string;
}

/** One event in the body of a request. */
function receive(text: string, { call, batch = '{}' }: Around = {}) {
  const rest = batch === '{}' ? '}' : `,${batch.slice(1)}`;
  const parsed = parseJson(Buffer.from(`{"batch":[${text}]${rest}`), maxDepth);
  const body = parsed.value as { batch: unknown[] };
  return normalize(body.batch[0], call ?? null, factsOf(1, { ...body }, parsed), validate);
}

function accept(event: object | string, around?: Around): AcceptedEvent {
  const result = receive(typeof event === 'string' ? event : JSON.stringify(event), around);
  assert.ok('event' in result, JSON.stringify(result));
  return result.event;
}

function refuse(event: unknown, around?: Around): Refusal {
  const result = receive(typeof event === 'string' ? event : JSON.stringify(event), around);
  assert.ok('refusal' in result, JSON.stringify(result));
  return result.refusal;
}

const stored = (event: AcceptedEvent) => JSON.parse(event.text) as Record<string, unknown>;

const track = { type: 'track', event: 'Tested', userId: 'u-1', messageId: 'm-1' };

/** Hands each generated event that is accepted to the check; most are. */
function forAcceptedEvents(
  check: (event: AcceptedEvent, sent: { text: string; batch: string }) => void,
): void {
  let accepted = 0;
  fc.assert(
    fc.property(hostileEvent, hostileBatch, (text, batch) => {
      const result = receive(text, { batch });
      if (!('event' in result)) return;
      accepted++;
      check(result.event, { text, batch });
    }),
    { numRuns: 2_000 },
  );
  assert.ok(accepted > 500, `only ${accepted} of 2,000 events were accepted`);
}

test('normalize twice = once: what was stored is stored the same when it comes again', () => {
  forAcceptedEvents((event, { batch }) => {
    const again = accept(event.text);
    // Marks say what was replaced the first time; sentAt of the batch is not part of the event.
    assert.equal(again.text, event.text);
    for (const field of ['type', 'event', 'userId', 'anonymousId', 'userKey', 'lane', 'messageId'] as const)
      assert.equal(again[field], event[field], field);
    assert.equal(again.marks, null);
    assert.equal(accept(event.text, { batch }).text, event.text);
  });
});

test('an accepted event is kept whole: only what was missing is added, only the write key is taken away', () => {
  forAcceptedEvents((event, { text, batch }) => {
    if (event.marks !== null) return;
    const [sent, kept] = [fieldsOf(text), fieldsOf(event.text)];
    assert.ok(!kept.has('writeKey'));
    for (const [key, value] of sent) {
      if (['writeKey', 'messageId', 'context', 'integrations'].includes(key)) continue;
      assert.deepEqual(kept.get(key), value, key);
    }
    const around = fieldsOf(batch);
    for (const key of kept.keys()) {
      const mayBeAdded = ['type', 'messageId'].includes(key) || around.has(key);
      assert.ok(sent.has(key) || mayBeAdded, `${key} was added`);
    }
  });
});

/** Fields of an object written as JSON, their numbers as decimals. */
function fieldsOf(text: string): Map<string, unknown> {
  return new Map((plainOf(text) as { fields: [string, unknown][] }).fields);
}

test('an accepted event is ready for its columns', () => {
  forAcceptedEvents((event) => {
    assert.ok(event.userId !== null || event.anonymousId !== null || event.type === 'alias');
    assert.equal(event.userKey, event.userId !== null ? `u:${event.userId}` : `a:${event.anonymousId}`);
    assert.equal(event.lane, laneOf(event.userKey));
    assert.equal(event.event === null, event.type !== 'track');
    assert.ok(event.messageId.length > 0 && Buffer.byteLength(event.messageId) <= 255);
    assert.ok(Buffer.byteLength(event.text) <= maxEventBytes);
    assert.ok(event.time === null || event.offsetMs === null);
    for (const time of [event.time, event.originalTime, event.sentTime])
      if (time !== null) assert.equal(new Date(time).toISOString(), time);
    for (const text of [event.text, event.userKey, event.messageId, event.event ?? ''])
      assert.ok(text.isWellFormed() && !text.includes('\0'));
  });
});

test('whatever an event is, it is accepted or refused in words; the refusal can be stored', () => {
  fc.assert(
    fc.property(fc.oneof(hostileEvent, jsonText), (text) => {
      const result = receive(text);
      if ('event' in result) return;
      const { refusal } = result;
      assert.ok(refusal.problems.length > 0);
      for (const { expected } of refusal.problems) assert.ok(expected.length > 0);
      for (const kept of [refusal.text, refusal.messageId, refusal.userId, refusal.anonymousId, refusal.type])
        assert.ok(kept === null || (kept.isWellFormed() && !kept.includes('\0')));
    }),
    { numRuns: 2_000 },
  );
});

test('the batch’s context and integrations are merged under the event’s own', () => {
  const shared = {
    context: { library: { name: 'go' }, ip: '1.2.3.4' },
    integrations: { All: true, Drip: false },
  };
  const batch = JSON.stringify(shared);
  const event = accept({ ...track, context: { ip: '5.6.7.8' }, integrations: { Drip: true } }, { batch });
  assert.deepEqual(stored(event)['context'], { library: { name: 'go' }, ip: '5.6.7.8' });
  assert.deepEqual(stored(event)['integrations'], { All: true, Drip: true });
  assert.deepEqual(stored(accept(track, { batch })), { ...track, ...shared });
  for (const own of [null, []])
    assert.deepEqual(stored(accept({ ...track, context: own }, { batch }))['context'], shared.context);
  for (const none of ['null', '[]', '"text"', '7'])
    assert.deepEqual(stored(accept(track, { batch: `{"context":${none}}` })), track);
});

test('merging keeps a key named __proto__ as data on both sides', () => {
  const batch = '{"context":{"__proto__":{"a":1}}}';
  const text = accept('{"type":"track","event":"e","userId":"u","messageId":"m","context":{"b":2}}', {
    batch,
  }).text;
  assert.match(text, /"context":\{"__proto__":\{"a":1\},"b":2\}/);
  const own = accept(
    '{"type":"track","event":"e","userId":"u","__proto__":{"writeKey":"x"},"writeKey":"k"}',
  ).text;
  assert.match(own, /"__proto__":\{"writeKey":"x"\}/);
  assert.doesNotMatch(own, /"k"/);
});

test('ids may be numbers, null and empty are absent; the event keeps them as they came', () => {
  const cases: [userId: string, anonymousId: string, userKey: string][] = [
    ['7', 'null', 'u:7'],
    ['0', '"a"', 'u:0'],
    ['12345678901234567890', 'null', 'u:12345678901234567890'],
    ['1.50', 'null', 'u:1.5'],
    ['null', '"a"', 'a:a'],
    ['""', '"a"', 'a:a'],
    ['null', '9007199254740993', 'a:9007199254740993'],
    ['" "', 'null', 'u: '],
  ];
  for (const [userId, anonymousId, userKey] of cases) {
    const event = accept(`{"type":"track","event":"e","userId":${userId},"anonymousId":${anonymousId}}`);
    assert.equal(event.userKey, userKey);
    assert.match(event.text, new RegExp(`"userId":${userId.replace('1.50', '1.5').replaceAll('.', '\\.')},`));
  }
  for (const nobody of [{}, { userId: null }, { userId: '' }, { userId: '', anonymousId: null }]) {
    const refusal = refuse({ type: 'track', event: 'e', ...nobody });
    assert.equal(refusal.problems[0]?.field, 'userId');
    assert.match(refusal.problems[0]?.expected ?? '', /a userId or an anonymousId/);
  }
  for (const bad of [true, {}, ['u'], { id: 1 }])
    assert.equal(refuse({ ...track, userId: bad }).problems[0]?.field, 'userId');
  assert.equal(refuse({ ...track, userId: 'x'.repeat(513) }).problems[0]?.field, 'userId');
});

test('PHP’s [] for {} is taken wherever an object is; other arrays are not', () => {
  for (const field of ['context', 'integrations', 'properties']) {
    assert.deepEqual(stored(accept({ ...track, [field]: [] }))[field], []);
    assert.equal(refuse({ ...track, [field]: [1] }).problems[0]?.field, field);
    assert.equal(refuse({ ...track, [field]: 'text' }).problems[0]?.field, field);
  }
  const identify = { type: 'identify', userId: 'u-1' };
  assert.deepEqual(stored(accept({ ...identify, traits: [] }))['traits'], []);
});

test('a message id is kept, made when there is none, and 255 bytes at most', () => {
  assert.equal(accept(track).messageId, 'm-1');
  assert.equal(accept({ ...track, messageId: 42 }).messageId, '42');
  for (const none of [null, '', undefined]) {
    const event = accept({ ...track, messageId: none });
    assert.match(event.messageId, /^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/);
    assert.equal(stored(event)['messageId'], event.messageId);
  }
  assert.equal(accept({ ...track, messageId: 'é'.repeat(127) }).messageId.length, 127);
  assert.equal(refuse({ ...track, messageId: 'é'.repeat(128) }).problems[0]?.field, 'messageId');
});

test('the path of a single call decides its type, whatever the body says', () => {
  const event = accept({ type: 'page', event: 'Tested', userId: 'u-1' }, { call: 'track' });
  assert.equal(event.type, 'track');
  assert.equal(stored(event)['type'], 'track');
  for (const type of [undefined, null, 7, 'nothing', 'common', '__proto__', 'constructor', 'Track'])
    assert.equal(refuse({ ...track, type }).problems[0]?.field, 'type', String(type));
});

test('times: corrected by sentAt of the event, else of the batch; both timestamps fix it', () => {
  const timestamp = '2026-01-31T09:15:00.000Z';
  const times = (event: object, batch = {}) => {
    const around = { batch: JSON.stringify(batch) };
    const { time, offsetMs, originalTime, sentTime } = accept({ ...track, ...event }, around);
    return [time, offsetMs, originalTime, sentTime];
  };
  const sentAt = '2026-01-31T09:15:02.000Z';
  assert.deepEqual(times({}), [null, 0, null, null]);
  assert.deepEqual(times({ timestamp }), [timestamp, null, timestamp, null]);
  assert.deepEqual(times({ timestamp, sentAt }), [null, 2_000, timestamp, sentAt]);
  assert.deepEqual(times({ timestamp }, { sentAt }), [null, 2_000, timestamp, sentAt]);
  assert.deepEqual(times({ originalTimestamp: timestamp }, { sentAt }), [null, 2_000, timestamp, sentAt]);
  const own = '2026-01-31T09:15:05.000Z';
  assert.deepEqual(times({ timestamp, sentAt: own }, { sentAt }), [null, 5_000, timestamp, own]);
  const original = '2026-01-01T00:00:00.000Z';
  assert.deepEqual(times({ timestamp, originalTimestamp: original, sentAt }), [
    timestamp,
    null,
    original,
    sentAt,
  ]);
  // What is wrong with the batch's sentAt is not the event's fault.
  assert.deepEqual(times({ timestamp }, { sentAt: 'rubbish' }), [timestamp, null, timestamp, null]);
  for (const field of ['timestamp', 'originalTimestamp', 'sentAt'])
    assert.equal(refuse({ ...track, [field]: '2026-02-30T00:00:00Z' }).problems[0]?.field, field);
});

test('NUL and lone surrogates are replaced and the event is marked; its neighbours are not', () => {
  const event = accept(
    '{"type":"track","event":"e\\u0000","userId":"u\\ud800","messageId":"m","properties":{"\\udfff":1}}',
  );
  assert.deepEqual(event.marks, ['replaced_characters']);
  assert.deepEqual([event.event, event.userId], ['e\ufffd', 'u\ufffd']);
  assert.deepEqual(stored(event)['properties'], { '\ufffd': 1 });
  assert.equal(accept('{"type":"track","event":"\\\\u0000 \\ud83d\\ude00","userId":"u"}').marks, null);
});

test('hostile characters and numbers of the batch’s context are no way around: they go into every event', () => {
  const batch = '{"context":{"a\\u0000":"\\ud800"},"integrations":{"b":"\\udfff"}}';
  const event = accept(track, { batch });
  assert.deepEqual(event.marks, ['replaced_characters']);
  assert.deepEqual(stored(event)['context'], { 'a\ufffd': '\ufffd' });
  assert.deepEqual(stored(event)['integrations'], { b: '\ufffd' });
  const refusal = refuse(track, { batch: '{"context":{"n":1e400}}' });
  assert.deepEqual([refusal.code, refusal.problems[0]?.field], ['number_out_of_range', 'context.n']);
  const many = `{"context":{"n":[${Array(100).fill('1e308').join(',')}]}}`;
  assert.equal(refuse(track, { batch: many }).code, 'number_out_of_range');
});

test('a number that cannot be kept refuses its event by the number’s path', () => {
  const refusal = refuse('{"type":"track","event":"e","userId":"u","properties":{"a":[1,{"b":1e400}]}}');
  assert.equal(refusal.code, 'number_out_of_range');
  assert.equal(refusal.problems[0]?.field, 'properties.a.1.b');
  assert.match(refusal.text, /"b":"1e400"/);
});

test('size counts bytes as stored, the batch’s context included', () => {
  const half = 'x'.repeat(maxEventBytes / 2 - 100);
  const fits = { ...track, properties: { text: half, more: half } };
  assert.ok(accept(fits).text.length > maxEventBytes - 200);
  assert.equal(refuse({ ...fits, more: 'x'.repeat(200) }).code, 'event_too_large');
  const wide = { ...track, properties: { text: 'é'.repeat(maxEventBytes / 2) } };
  assert.equal(refuse(wide).code, 'event_too_large');
  assert.equal(refuse(fits, { batch: `{"context":{"text":"${'x'.repeat(300)}"}}` }).code, 'event_too_large');
  assert.ok(refuse({ ...track, more: 'x'.repeat(1_000_000) }).text.length <= 4 * maxEventBytes);
});

test('keys and texts have a limit of their own, named where it is broken', () => {
  const refusal = (properties: unknown) => refuse({ ...track, properties });
  const long = refusal({ list: [{ text: 'x'.repeat(maxStringLength + 1) }] });
  assert.deepEqual([long.code, long.problems[0]?.field], ['event_too_large', 'properties.list.0.text']);
  assert.match(long.problems[0]?.expected ?? '', /at most 36864 characters/);
  const wide = refusal({ a: { ['k'.repeat(maxKeyLength + 1)]: 1 } });
  assert.deepEqual(
    [wide.code, wide.problems[0]?.field],
    ['event_too_large', `properties.a.${'k'.repeat(40)}`],
  );
  assert.match(wide.problems[0]?.expected ?? '', /a name of at most 8192 characters/);
  accept({ ...track, properties: { text: 'x'.repeat(maxStringLength), ['k'.repeat(3_000)]: 1 } });
  const many = refusal(Object.fromEntries(Array.from({ length: maxKeys }, (_, key) => [`k${key}`, 0])));
  assert.equal(many.code, 'event_too_large');
  assert.match(many.problems[0]?.expected ?? '', /at most 11000 keys/);
});

test('the address is added for devices only, for IPv4 only, and never over one that was sent', () => {
  const address = (
    event: object,
    {
      onDevice = false,
      from = '9.8.7.6',
      batch = {},
    }: { onDevice?: boolean; from?: string | null; batch?: object } = {},
  ) => {
    const parsed = parseJson(
      Buffer.from(JSON.stringify({ ...batch, batch: [{ ...track, ...event }] })),
      maxDepth,
    );
    const body = parsed.value as { batch: unknown[] };
    const facts = factsOf(1, { ...body }, parsed, { onDevice, address: () => from });
    const result = normalize(body.batch[0], null, facts, validate);
    assert.ok('event' in result, JSON.stringify(result));
    const { context } = stored(result.event);
    return (context as { ip?: unknown } | undefined)?.ip;
  };
  const library = (name: string) => ({ context: { library: { name, version: '1' } } });
  assert.equal(address({}, { onDevice: true }), '9.8.7.6');
  assert.equal(address({ context: [] }, { onDevice: true }), '9.8.7.6');
  assert.equal(address({ context: null }, { onDevice: true }), '9.8.7.6');
  assert.equal(address({ channel: 'mobile' }), '9.8.7.6');
  assert.equal(address({ context: { direct: true } }), '9.8.7.6');
  assert.equal(address({}, { batch: { context: { direct: true } } }), '9.8.7.6');
  assert.equal(address(library('analytics-android')), '9.8.7.6');
  assert.equal(address({}, { batch: library('analytics-ios') }), '9.8.7.6');
  for (const none of [{}, { channel: 'server' }, { context: { direct: 'true' } }, library('analytics-ruby')])
    assert.equal(address(none), undefined, JSON.stringify(none));
  assert.equal(address({}, { onDevice: true, from: '2001:db8::1' }), undefined);
  assert.equal(address({}, { onDevice: true, from: null }), undefined);
  for (const ip of ['1.1.1.1', '', null]) assert.equal(address({ context: { ip } }, { onDevice: true }), ip);
  assert.equal(address({}, { onDevice: true, batch: { context: { ip: '1.1.1.1' } } }), '1.1.1.1');
});

test('what is no object is refused by what it is', () => {
  for (const text of ['null', '7', '"track"', '[]', '12345678901234567890', 'true'])
    assert.equal(refuse(text).problems[0]?.expected, 'to be an object', text);
});
