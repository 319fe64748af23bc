/**
 * JSON that means harm, or only looks like it: fast-check arbitraries for texts, numbers and whole documents, and
 * numbers compared by what they say instead of by what a double makes of them.
 */
import * as fc from 'fast-check';

/** Texts with what Postgres refuses or JavaScript trips over. */
export const hostileText: fc.Arbitrary<string> = fc.oneof(
  fc.string(),
  fc
    .array(
      fc.constantFrom(
        '\0',
        '\ud800',
        '\udfff',
        '\udbff\udc00',
        '\u2028',
        '\ufeff',
        '"',
        '\\',
        '\\u0000',
        '\x1f',
        'é',
        'a',
      ),
      { maxLength: 8 },
    )
    .map((units) => units.join('')),
);

const hostileKey = fc.oneof(
  hostileText,
  fc.constantFrom('__proto__', 'constructor', 'prototype', 'toJSON', 'hasOwnProperty', '0', '10', ''),
);

const digits = fc.stringMatching(/^(?:0|[1-9][0-9]{0,40})$/);

/** Numbers as somebody may write them, from ordinary to out of any range. */
export const numberSource: fc.Arbitrary<string> = fc.oneof(
  fc.integer().map(String),
  fc.bigInt().map(String),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((number) => JSON.stringify(number)),
  fc
    .tuple(
      fc.constantFrom('', '-'),
      digits,
      fc.oneof(fc.constant(''), fc.stringMatching(/^\.[0-9]{1,40}$/)),
      fc.oneof(
        fc.constant(''),
        fc.integer({ min: -420, max: 420 }).map((exponent) => `e${exponent}`),
        fc.integer({ min: 0, max: 400 }).map((exponent) => `E+${exponent}`),
      ),
    )
    .map((parts) => parts.join('')),
);

/** A document as text, so that numbers stay as they were written and keys may be anything. */
export const jsonText: fc.Arbitrary<string> = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.constantFrom('null', 'true', 'false'),
    hostileText.map((text) => JSON.stringify(text)),
    numberSource,
    fc.array(tie('value'), { maxLength: 4 }).map((items) => `[${items.join(',')}]`),
    objectText(tie('value')),
  ),
})).value;

/** An object with other values of the given kind, each key once. */
export function objectText(value: fc.Arbitrary<string>): fc.Arbitrary<string> {
  return fc
    .uniqueArray(fc.tuple(hostileKey, value), { maxLength: 5, selector: ([key]) => key })
    .map((fields) => `{${fields.map(([key, item]) => `${JSON.stringify(key)}:${item}`).join(',')}}`);
}

/** Ids as clients send them: texts, numbers of any size, nothing. */
const idText = fc.oneof(
  fc.string({ maxLength: 40 }).map((text) => JSON.stringify(text)),
  hostileText.map((text) => JSON.stringify(text)),
  fc.constantFrom('null', '""', '7', '0', '12345678901234567890', '1.5', '-3'),
);
const timeText = fc.constantFrom(
  'null',
  '""',
  '"2026-01-31T09:15:00.123Z"',
  '"2026-01-31T11:15:00.1234567+02:00"',
  '"1970-01-01"',
  '"2100-01-01T00:00:00Z"',
);
const mapText = fc.oneof(fc.constantFrom('null', '[]', '{}'), objectText(jsonText));

/** Events as text: mostly good ones, with whatever properties. */
export const hostileEvent: fc.Arbitrary<string> = fc
  .record(
    {
      type: fc.constantFrom('"identify"', '"track"', '"page"', '"screen"', '"group"', '"alias"'),
      event: idText,
      userId: idText,
      anonymousId: idText,
      groupId: idText,
      previousId: idText,
      messageId: idText,
      timestamp: timeText,
      originalTimestamp: timeText,
      sentAt: timeText,
      context: mapText,
      integrations: mapText,
      properties: mapText,
      traits: mapText,
      writeKey: fc.constant('"key"'),
      _metadata: jsonText,
      __proto__: mapText,
    },
    { requiredKeys: ['type', 'event', 'userId', 'groupId', 'previousId'], noNullPrototype: false },
  )
  .map(
    (fields) =>
      `{${Object.entries(fields)
        .map(([key, text]) => `${JSON.stringify(key)}:${text}`)
        .join(',')}}`,
  );

/** What a batch holds beside its events. */
export const hostileBatch: fc.Arbitrary<string> = fc
  .record({ sentAt: timeText, context: mapText, integrations: mapText }, { requiredKeys: [] })
  .map(textOf);

function textOf(fields: Readonly<Record<string, string | undefined>>): string {
  return `{${Object.entries(fields)
    .map(([key, text]) => `${JSON.stringify(key)}:${text}`)
    .join(',')}}`;
}

/** What a number says, in one form: `-12.50e3` and `-12500` are the same. */
export function decimalOf(source: string): string {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] =
    /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(source) ?? [];
  const all = `${whole}${fraction}`.replace(/^0+/, '');
  if (all === '') return '0';
  const significant = all.replace(/0+$/, '');
  return `${sign}${significant}e${Number(exponent) - fraction.length + all.length - significant.length}`;
}

/** A document whose numbers are decimals and whose objects are sorted lists of fields, so that no key is special. */
export function plainOf(text: string): unknown {
  return JSON.parse(text, (_key, value, context): unknown => {
    if (typeof value === 'number') return { number: decimalOf(context?.source ?? '') };
    if (typeof value !== 'object' || value === null || Array.isArray(value) || isDecimal(value)) return value;
    return { fields: Object.entries(value).sort(([left], [right]) => (left < right ? -1 : 1)) };
  });
}

/** Made by plainOf; documents of these tests have no such field. */
function isDecimal(value: object): boolean {
  return Object.hasOwn(value, 'number');
}
