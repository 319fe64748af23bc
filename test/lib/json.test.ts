/** Hostile JSON is stored whole or refused, and refused by an error that may be shown. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { AppError } from '../../src/lib/errors.ts';
import { findUnstorableNumber, parseJson, replaceBadText } from '../../src/lib/json.ts';
import {
  decimalOf,
  hostileText,
  jsonText,
  numberSource,
  objectText,
  plainOf,
} from '../support/hostile-json.ts';

const maxDepth = 100;
const parse = (text: string, depth = maxDepth) => parseJson(Buffer.from(text), depth);

/** The code of the error, which must be one that may be shown; null when it was parsed. */
function refusal(bytes: Buffer, depth = maxDepth): string | null {
  try {
    parseJson(bytes, depth);
    return null;
  } catch (error) {
    assert.ok(error instanceof AppError, String(error));
    assert.ok(error.status === 400 && error.message.length < 250, error.message);
    return error.code;
  }
}

test('any document comes back whole: what was written is what would be stored', () => {
  fc.assert(
    fc.property(objectText(jsonText), (text) => {
      const { value } = parse(text);
      if (findUnstorableNumber(value) !== null) return;
      assert.deepEqual(plainOf(JSON.stringify(value)), plainOf(text));
    }),
    { numRuns: 2_000 },
  );
});

test('a number is kept as it was written, or named as one that cannot be', () => {
  fc.assert(
    fc.property(numberSource, (source) => {
      const { value } = parse(`{"a":{"b":[1,${source}]}}`);
      const found = findUnstorableNumber(value);
      if (found === null) {
        const stored = /\[1,(.*)\]/.exec(JSON.stringify(value))?.[1] ?? '';
        assert.equal(decimalOf(stored), decimalOf(source));
      } else {
        assert.equal(found.field, 'a.b.1');
        assert.equal(decimalOf(found.source), decimalOf(source));
        const size = Math.abs(Number(source));
        assert.ok(size < 1e-21 || size > 1e21, `${source} could have been stored`);
      }
    }),
    { numRuns: 3_000 },
  );
});

test('numbers that people meet', () => {
  const kept = [
    '9007199254740993',
    '-12345678901234567890',
    '0.1',
    '1e3',
    '100000000000000000000',
    '1.10',
    '5e-324',
  ];
  for (const source of kept) {
    const { value } = parse(`[${source}]`);
    assert.equal(findUnstorableNumber(value), null, source);
    assert.equal(decimalOf(JSON.stringify(value).slice(1, -1)), decimalOf(source));
  }
  for (const source of ['1e400', '-1e131000', '1e-400', '1.234567890123456e-320'])
    assert.deepEqual(findUnstorableNumber(parse(`{"n":${source}}`).value), { field: 'n', source });
});

test('Postgres never writes numbers out to more than four times what was sent, and a little', () => {
  const large = fc.tuple(fc.constantFrom('1', '-1', '1.5', '123456789'), fc.integer({ min: 22, max: 308 }));
  const source = fc.oneof(
    large.map(([mantissa, exponent]) => `${mantissa}e${exponent}`),
    large.map(([mantissa, exponent]) => `${mantissa}e-${exponent}`),
    fc.constantFrom('1', '1e3', '1.2345678901234567890123e250'),
  );
  fc.assert(
    fc.property(fc.array(source, { maxLength: 300 }), (sources) => {
      const text = `[${sources.join(',')}]`;
      const { value } = parse(text);
      const written = sources.reduce((sum, each) => sum + writtenLength(each), 0);
      if (findUnstorableNumber(value) === null) assert.ok(written <= 4 * text.length + 1_024, `${written}`);
      else assert.ok(written > text.length + 256, `${written} of ${text.length} were refused`);
    }),
    { numRuns: 300 },
  );
  assert.notEqual(findUnstorableNumber(parse(`[${Array(2_500).fill('1e308').join(',')}]`).value), null);
});

/** Characters of a number without its exponent, as numeric writes it. */
function writtenLength(source: string): number {
  const [, digits = '', exponent = '0'] = /^-?(\d+)e(-?\d+)$/.exec(decimalOf(source)) ?? [];
  return Number(exponent) >= 0
    ? digits.length + Number(exponent)
    : Math.max(digits.length, 1 - Number(exponent));
}

test('whatever bytes come, they are parsed or refused in words', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array().map((bytes) => Buffer.from(bytes)),
        fc.string({ unit: 'binary' }).map((text) => Buffer.from(text)),
        fc
          .array(
            fc.constantFrom('{', '}', '[', ']', '"', '\\', ':', ',', '1', 'e', '-', 'null', ' ', '\\u0000'),
            {
              maxLength: 30,
            },
          )
          .map((pieces) => Buffer.from(pieces.join(''))),
        fc.tuple(jsonText, fc.nat(1_000), fc.nat(255)).map(([text, place, byte]) => {
          const bytes = Buffer.from(text);
          bytes[place % bytes.length] = byte;
          return bytes;
        }),
      ),
      (bytes) => {
        const code = refusal(bytes);
        assert.ok([null, 'invalid_json', 'invalid_encoding', 'too_deep'].includes(code), `${code}`);
      },
    ),
    { numRuns: 3_000 },
  );
});

test('bytes that are no UTF-8 are refused as such', () => {
  for (const bytes of [[0xff], [0x22, 0xc3, 0x22], [0x22, 0xed, 0xa0, 0x80, 0x22], [0x22, 0xc0, 0x80, 0x22]])
    assert.equal(refusal(Buffer.from(bytes)), 'invalid_encoding');
});

test('nesting is counted as it is: brackets inside texts are none, the limit itself is allowed', () => {
  const nested = (depth: number, inner = '1') => `${'['.repeat(depth)}${inner}${']'.repeat(depth)}`;
  for (let depth = 1; depth < 40; depth++) {
    assert.equal(refusal(Buffer.from(nested(depth)), 20), depth > 20 ? 'too_deep' : null);
    assert.equal(
      refusal(Buffer.from('{"a":'.repeat(depth) + '1' + '}'.repeat(depth)), 20),
      depth > 20 ? 'too_deep' : null,
    );
  }
  assert.equal(refusal(Buffer.from(nested(20, '"[[[[\\"[[[\\\\"')), 20), null);
  assert.equal(refusal(Buffer.from(`[${'[],'.repeat(1_000)}1]`), 2), null, 'width is not depth');
  // A hundred thousand levels would overflow the stack of whoever writes them out again.
  assert.equal(refusal(Buffer.from(nested(100_000)), 200), 'too_deep');
  assert.equal(refusal(Buffer.from('['.repeat(5_000_000)), 200), 'too_deep');
});

test('the refusal of broken JSON repeats little of what was sent', () => {
  const canary = 'CANARY-of-a-long-text '.repeat(20);
  try {
    parse(`{"a":"${canary}"`);
    assert.fail('it was parsed');
  } catch (error) {
    assert.match((error as AppError).message, /^The request body is not valid JSON: /);
    assert.ok((error as AppError).message.length < 200);
  }
});

test('replacing what Postgres refuses leaves none of it, changes nothing else, and once is enough', () => {
  fc.assert(
    fc.property(objectText(jsonText), (text) => {
      const { value, mayHoldBadText } = parse(text);
      const clean = replaceBadText(value);
      const stored = JSON.stringify(clean);
      assert.doesNotMatch(stored, /(?<!\\)(?:\\\\)*\\u(?:0000|[dD][89a-fA-F])/);
      assert.ok(stored.isWellFormed());
      assert.equal(replaceBadText(clean), clean);
      const hasBadText = /(?<!\\)(?:\\\\)*\\u(?:0000|[dD][89a-fA-F])/.test(JSON.stringify(value));
      assert.equal(clean === value, !hasBadText);
      if (hasBadText) assert.ok(mayHoldBadText, 'the look at the bytes must not miss any');
    }),
    { numRuns: 2_000 },
  );
});

test('a text keeps everything but NUL and lone surrogates, each of which becomes U+FFFD', () => {
  assert.equal(replaceBadText('a\0b\ud800c\udc00d'), 'a\ufffdb\ufffdc\ufffdd');
  assert.equal(replaceBadText('💥 \u2028 \ufeff \x1f'), '💥 \u2028 \ufeff \x1f');
  fc.assert(
    fc.property(hostileText, (text) => {
      const clean = replaceBadText(text);
      assert.equal(clean.length, text.length);
      for (let index = 0; index < text.length; index++)
        assert.ok(clean[index] === text[index] || clean[index] === '\ufffd');
    }),
  );
});

test('__proto__ and its like are data, before and after texts were replaced', () => {
  const text =
    '{"__proto__":{"polluted":"\\u0000"},"constructor":{"prototype":{"polluted":1}},"n":12345678901234567890}';
  const { value } = parse(text);
  const clean = replaceBadText(value) as Record<string, unknown>;
  for (const each of [value, clean] as Record<string, unknown>[]) {
    assert.ok(Object.hasOwn(each, '__proto__'));
    assert.equal(Object.getPrototypeOf(each), Object.prototype);
    assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
  }
  assert.equal(JSON.stringify(clean), text.replace('\\u0000', '\ufffd'));
});
