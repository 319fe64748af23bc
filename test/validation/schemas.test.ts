/** The schemas of the calls are what people read: every field is described, every example is taken. */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { before, test } from 'node:test';
import { factsOf, normalize } from '../../src/ingest/normalize.ts';
import { loadEventSchemas, type EventValidator } from '../../src/validation/catalogue.ts';
import { propertiesWithoutDescription } from '../support/schema-walk.ts';

interface EventSchema {
  readonly $schema: string;
  readonly $id: string;
  readonly title: string;
  readonly description: string;
  readonly required?: readonly string[];
  readonly examples?: readonly Record<string, unknown>[];
}

const folder = new URL('../../schemas/event/', import.meta.url);
const calls = ['alias', 'group', 'identify', 'page', 'screen', 'track'];
const schemas = new Map<string, EventSchema>();
let validate: EventValidator;

before(async () => {
  for (const file of await readdir(folder)) {
    const schema = JSON.parse(await readFile(new URL(file, folder), 'utf8')) as EventSchema;
    schemas.set(file.replace(/\.json$/, ''), schema);
  }
  validate = await loadEventSchemas();
});

test('there is a schema for each of the six calls and one for what they share', () => {
  assert.deepEqual([...schemas.keys()].sort(), [...calls, 'common'].sort());
  for (const call of calls) assert.notEqual(validate(call, {}), null, call);
  assert.equal(validate('common', {}), null, 'what is shared is no call');
  assert.equal(validate('constructor', {}), null);
});

test('every schema says what it is, and every property is described', () => {
  for (const [name, schema] of schemas) {
    assert.equal(schema.$schema, 'https://json-schema.org/draft/2020-12/schema');
    assert.equal(schema.$id, `urn:repeater:event:${name}`);
    assert.ok(schema.title && schema.description, name);
    assert.deepEqual(propertiesWithoutDescription(schema), [], name);
  }
});

test('every example of a call is valid, and is accepted at the door as it stands', () => {
  for (const call of calls) {
    const { examples = [] } = schemas.get(call) ?? {};
    assert.ok(examples.length > 0, `${call} has no example`);
    for (const example of examples) {
      assert.equal(example['type'], call);
      assert.deepEqual(validate(call, example), []);
      const parsed = { value: example, mayHoldBadText: false, mayHoldBadNumbers: false };
      const result = normalize(example, null, factsOf(1, {}, parsed), validate);
      assert.ok('event' in result, JSON.stringify(result));
      assert.deepEqual(JSON.parse(result.event.text), example);
    }
  }
});

test('an example without a required field is refused by its name', () => {
  for (const call of calls) {
    const { required = [], examples = [] } = schemas.get(call) ?? {};
    for (const field of required) {
      const { [field]: _, ...rest } = examples[0] as Record<string, unknown>;
      const problems = validate(call, rest) ?? [];
      assert.ok(
        problems.some((problem) => problem.field === field && problem.expected === 'to be present'),
        `${call} without ${field}: ${JSON.stringify(problems)}`,
      );
    }
  }
});
