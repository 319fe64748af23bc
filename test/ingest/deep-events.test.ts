/** Cutting deep events out of a batch leaves the others byte for byte, wherever brackets and quotes stand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { cutDeepEvents } from '../../src/ingest/deep-events.ts';
import { jsonText } from '../support/hostile-json.ts';

const maxDepth = 12;
const deep = `{"deep":${'['.repeat(20)}"]}\\"",${']'.repeat(20).slice(1)}]}`.replace('",]', '"]');

function cut(text: string) {
  const { bytes, cutOut } = cutDeepEvents(Buffer.from(text), maxDepth);
  return { text: bytes.toString(), cutOut: [...cutOut].map(([at, part]) => [at, part.toString().trim()]) };
}

test('the events that are too deep are cut out, by their place', () => {
  JSON.parse(deep);
  assert.deepEqual(cut(`{"batch":[{"a":1},${deep},{"b":"[{"}],"sentAt":"x"}`), {
    text: '{"batch":[{"a":1},null,{"b":"[{"}],"sentAt":"x"}',
    cutOut: [[1, deep]],
  });
  assert.deepEqual(cut(`{"other":[[[]]], "batch" : [ ${deep} , {} , ${deep} ] }`).cutOut, [
    [0, deep],
    [2, deep],
  ]);
});

test('only the batch is looked through, and of two the last', () => {
  for (const text of [
    `{"context":${deep},"batch":[]}`,
    `[${deep}]`,
    `{"batch":${deep}}`,
    `{"x":{"batch":[${deep}]}}`,
  ])
    assert.deepEqual(cut(text), { text, cutOut: [] });
  assert.deepEqual(cut(`{"batch":[1,${deep}],"batch":[${deep}]}`).cutOut, [[0, deep]]);
});

test('whatever stands around them, the other events come out as they went in', () => {
  fc.assert(
    fc.property(
      fc.array(fc.option(jsonText, { nil: null }), { maxLength: 6 }),
      jsonText,
      (events, context) => {
        const items = events.map((event) => event ?? deep);
        const { bytes, cutOut } = cutDeepEvents(
          Buffer.from(`{"context":${context},"batch":[${items.join(',')}]}`),
          maxDepth,
        );
        assert.deepEqual(
          [...cutOut.keys()],
          events.flatMap((event, index) => (event === null ? [index] : [])),
        );
        assert.equal(
          bytes.toString(),
          `{"context":${context},"batch":[${events.map((event) => event ?? 'null').join(',')}]}`,
        );
      },
    ),
    { numRuns: 500 },
  );
});

test('a broken document is no trap', () => {
  fc.assert(
    fc.property(fc.stringMatching(/^[[\]{}",\\:batch]{0,60}$/), (text) => {
      cutDeepEvents(Buffer.from(text), maxDepth);
    }),
  );
  assert.equal(cut('{"batch":["').text, '{"batch":["');
});
