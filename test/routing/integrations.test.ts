/** The integrations object decides by name, whatever else the event holds, and costs no parsing where it says nothing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isWanted } from '../../src/routing/integrations.ts';

const names = ['Orders', 'Webhook', 'webhook'];

function wanted(integrations: unknown, rest: object = {}): boolean {
  const payload = { type: 'track', ...rest, ...(integrations === undefined ? {} : { integrations }) };
  const compact = isWanted({ text: JSON.stringify(payload), payload }, names);
  // As Postgres writes it.
  const spaced = JSON.stringify(payload).replaceAll('":', '": ');
  assert.equal(isWanted({ text: spaced, payload }, names), compact);
  return compact;
}

test('an event goes everywhere unless it says otherwise', () => {
  for (const nothing of [undefined, {}, [], null, 'no', false, { Drip: false }, { All: true }, { All: null }])
    assert.equal(wanted(nothing), true, JSON.stringify(nothing));
});

test('All: false stops it, and a name that is on lets it through', () => {
  assert.equal(wanted({ All: false }), false);
  for (const name of names) {
    assert.equal(wanted({ All: false, [name]: true }), true, name);
    assert.equal(wanted({ All: false, [name]: { option: false } }), true, name);
    assert.equal(wanted({ All: false, [name]: false }), false, name);
    assert.equal(wanted({ [name]: false }), false, name);
  }
  assert.equal(wanted({ All: false, Drip: true }), false);
});

test("a destination's own name says more than that of its type", () => {
  assert.equal(wanted({ Orders: true, Webhook: false }), true);
  assert.equal(wanted({ Webhook: true, Orders: false }), false);
});

test('names are case-sensitive, and nothing is inherited', () => {
  assert.equal(wanted({ orders: false, WEBHOOK: false, all: false }), true);
  const payload = JSON.parse('{"integrations":{"__proto__":{"All":false}}}') as Record<string, unknown>;
  assert.equal(isWanted({ text: JSON.stringify(payload), payload }, ['constructor', 'x']), true);
});

test('integrations of a property are no integrations of the event', () => {
  assert.equal(wanted(undefined, { properties: { integrations: { All: false } } }), true);
  assert.equal(wanted({}, { properties: { integrations: { All: false } } }), true);
  assert.equal(wanted({ All: false }, { properties: { text: '"integrations":{}' } }), false);
});

test('where nothing is said the event is not parsed', () => {
  const event = (text: string) => ({
    text,
    get payload(): never {
      throw new Error('parsed');
    },
  });
  for (const text of [
    '{"type":"track"}',
    '{"integrations": {}}',
    '{"integrations":{},"a":{"integrations":[]}}',
  ])
    assert.equal(isWanted(event(text), names), true);
  assert.throws(() => isWanted(event('{"integrations": {"All": false}}'), names), /parsed/);
});
