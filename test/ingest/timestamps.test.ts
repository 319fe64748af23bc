/** The times that SDKs send, in all the forms they use, and the correction of a wrong clock. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { eventTime, parseInstant } from '../../src/ingest/timestamps.ts';

const at = Date.parse('2026-01-31T09:15:00.123Z');

test('the six forms that SDKs use are all the same instant', () => {
  const forms: [sdk: string, text: string][] = [
    ['JavaScript, Ruby, Swift', '2026-01-31T09:15:00.123Z'],
    ['an offset of zero', '2026-01-31T09:15:00.123+00:00'],
    ['Python', '2026-01-31T09:15:00.123456+00:00'],
    ['Go, Rust', '2026-01-31T09:15:00.123456789Z'],
    ['.NET, local', '2026-01-31T11:15:00.1234567+02:00'],
    ['.NET, west', '2026-01-31T03:45:00.1234567-05:30'],
  ];
  for (const [sdk, text] of forms) assert.equal(parseInstant(text), at, sdk);
  // PHP sends whole seconds.
  assert.equal(parseInstant('2026-01-31T09:15:00+00:00'), at - 123);
  assert.equal(parseInstant('2026-01-31T09:15:00Z'), at - 123);
});

test('what else ISO 8601 allows is understood; without an offset it is UTC', () => {
  const forms: [string, string][] = [
    ['2026-01-31', '2026-01-31T00:00:00.000Z'],
    ['2026-01-31T09:15', '2026-01-31T09:15:00.000Z'],
    ['2026-01-31 09:15:00', '2026-01-31T09:15:00.000Z'],
    ['2026-01-31t09:15:00z', '2026-01-31T09:15:00.000Z'],
    ['2026-01-31T09:15:00,5Z', '2026-01-31T09:15:00.500Z'],
    ['2026-01-31T09:15:00.1Z', '2026-01-31T09:15:00.100Z'],
    ['2026-01-31T09:15:00+0200', '2026-01-31T07:15:00.000Z'],
    ['2026-01-31T24:00:00Z', '2026-02-01T00:00:00.000Z'],
    ['2024-02-29T12:00:00Z', '2024-02-29T12:00:00.000Z'],
    ['1969-12-31T23:59:59.999Z', '1969-12-31T23:59:59.999Z'],
    ['0001-01-01T00:00:00Z', '0001-01-01T00:00:00.000Z'],
    ['9999-12-31T23:59:59.999Z', '9999-12-31T23:59:59.999Z'],
  ];
  for (const [text, expected] of forms) assert.equal(parseInstant(text), Date.parse(expected), text);
});

test('what is no time, or none that Postgres and a customer could mean, is refused and not guessed at', () => {
  for (const text of [
    '',
    'now',
    '2026',
    '2026-01',
    '2026-1-31',
    '2026-02-29T00:00:00Z',
    '2026-02-30',
    '2026-04-31T10:00:00Z',
    '2026-13-01',
    '2026-00-10',
    '2026-01-00',
    '2026-01-32',
    '2026-01-31T25:00:00Z',
    '2026-01-31T24:00:01Z',
    '2026-01-31T09:60:00Z',
    '2026-01-31T09:15:61Z',
    '2026-01-31T09:15:00+25:00',
    '2026-01-31T09:15:00+02:60',
    '0000-12-31T00:00:00Z',
    '0001-01-01T00:00:00+01:00',
    '9999-12-31T23:59:59-01:00',
    '+012026-01-31T09:15:00Z',
    '1769850900',
    '1769850900123',
    'Sat, 31 Jan 2026 09:15:00 GMT',
    '2026-01-31T09:15:00Z; drop table',
    '2026-01-31T09:15:00.1234567890123Z',
  ]) {
    assert.equal(parseInstant(text), null, text);
  }
});

const instants = fc.date({
  min: new Date('0001-01-03T00:00:00Z'),
  max: new Date('9999-12-29T00:00:00Z'),
  noInvalidDate: true,
});

test('any instant, written with any offset and any number of digits, reads back', () => {
  fc.assert(
    fc.property(
      instants,
      fc.integer({ min: -14 * 60, max: 14 * 60 }),
      fc.stringMatching(/^[0-9]{0,9}$/),
      fc.boolean(),
      (date, offsetMinutes, digits, colon) => {
        const local = new Date(date.getTime() + offsetMinutes * 60_000).toISOString().slice(0, -1);
        const size = Math.abs(offsetMinutes);
        const two = (number: number) => String(number).padStart(2, '0');
        const offset = `${offsetMinutes < 0 ? '-' : '+'}${two(Math.floor(size / 60))}${colon ? ':' : ''}${two(size % 60)}`;
        assert.equal(parseInstant(`${local}${digits}${offset}`), date.getTime());
      },
    ),
    { numRuns: 1_000 },
  );
});

test('any text is a whole number of milliseconds from year 1 to 9999, or no time; nothing is thrown', () => {
  const pieces = fc.array(
    fc.constantFrom(
      '2026',
      '-',
      '01',
      '31',
      'T',
      ' ',
      '09',
      ':',
      '15',
      '.',
      ',',
      '123',
      'Z',
      '+',
      '99',
      '\0',
    ),
    { maxLength: 16 },
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        pieces.map((each) => each.join('')),
      ),
      (text) => {
        const parsed = parseInstant(text);
        if (parsed === null) return;
        assert.ok(Number.isInteger(parsed));
        assert.match(new Date(parsed).toISOString(), /^\d{4}-/);
      },
    ),
    { numRuns: 2_000 },
  );
});

const hours = fc.integer({ min: -876_000, max: 876_000 });

test('a wrong clock is corrected: the event is as long before its acceptance as it was before it was sent', () => {
  fc.assert(
    fc.property(
      instants,
      hours,
      fc.nat(86_400_000),
      fc.nat(600_000),
      (happened, skewHours, waitedMs, transitMs) => {
        const skewMs = skewHours * 3_600_000;
        const sent = happened.getTime() + waitedMs;
        const time = eventTime(happened.getTime() + skewMs, sent + skewMs);
        assert.equal(time.kind, 'before-acceptance');
        // receivedAt - (sentAt - originalTimestamp): what is left over is the way here, whatever the clock said.
        const received = sent + transitMs;
        assert.equal(received - (time as { offsetMs: number }).offsetMs, happened.getTime() + transitMs);
      },
    ),
  );
});

test('without sentAt a time stays as it was sent; without a time it is that of acceptance', () => {
  assert.deepEqual(eventTime(at, null), { kind: 'fixed', at });
  assert.deepEqual(eventTime(null, at), { kind: 'before-acceptance', offsetMs: 0 });
  assert.deepEqual(eventTime(null, null), { kind: 'before-acceptance', offsetMs: 0 });
  // A time after it was sent is a plan, and stays in the future.
  assert.deepEqual(eventTime(at, at - 5_000), { kind: 'before-acceptance', offsetMs: -5_000 });
});

test('a difference of more than a century is no clock and moves nothing', () => {
  const century = 100 * 366 * 86_400_000;
  assert.deepEqual(eventTime(at, at + century), { kind: 'before-acceptance', offsetMs: century });
  assert.deepEqual(eventTime(at, at + century + 1), { kind: 'fixed', at });
  assert.deepEqual(eventTime(at, at - century - 1), { kind: 'fixed', at });
});
