import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { outcomeOfResponse, parseRetryAfter } from '../../src/destinations/answers.ts';

const now = Date.parse('2026-01-31T09:15:00.000Z');

const answer = (status: number, headers: Record<string, string> = {}) =>
  outcomeOfResponse({ status, headers, body: 'CANARY' }, now);

test('every status has one meaning, by the table', () => {
  const paused = [401, 403];
  const temporary = [408, 423, 425, 429];
  for (let status = 200; status < 600; status++) {
    const outcome = answer(status);
    assert.equal(outcome.status, status);
    if (status < 300) assert.deepEqual(outcome, { kind: 'delivered', status });
    else if (status < 400 || status >= 500 || temporary.includes(status)) {
      assert.equal(outcome.kind, 'retry', String(status));
      assert.equal(outcome.retryAfterMs, undefined);
    } else {
      assert.equal(outcome.kind, 'rejected', String(status));
      const whole = paused.includes(status) ? 'pause' : status === 410 ? 'disable' : undefined;
      assert.equal(outcome.destination, whole, String(status));
      assert.equal(outcome.response, 'CANARY');
    }
  }
});

test('the reason names the answer and repeats nothing of its body', () => {
  const reason = (status: number) => {
    const outcome = answer(status);
    return outcome.kind === 'delivered' ? '' : outcome.reason;
  };
  assert.equal(reason(404), 'The endpoint answered 404 Not Found.');
  assert.equal(reason(599), 'The endpoint answered 599.');
  assert.equal(reason(302), 'The endpoint answered 302 Found; redirects are not followed.');
  for (let status = 300; status < 600; status++) assert.doesNotMatch(reason(status), /CANARY/);
});

test('Retry-After counts with 429 and 503, where it says "come later"', () => {
  for (let status = 300; status < 600; status++) {
    const outcome = answer(status, { 'retry-after': '7' });
    const waitMs = outcome.kind === 'retry' ? outcome.retryAfterMs : undefined;
    assert.equal(waitMs, status === 429 || status === 503 ? 7_000 : undefined, String(status));
  }
});

test('seconds and dates are understood, a second to an hour; rubbish is none', () => {
  const cases: [string | undefined, number | null][] = [
    ['3', 3_000],
    [' 3 ', 3_000],
    ['1.5', 1_500],
    ['0', 1_000],
    ['0.0', 1_000],
    ['3600', 3_600_000],
    ['3601', 3_600_000],
    ['1000000000', 3_600_000],
    ['1e9', 3_600_000],
    ['1e999', 3_600_000],
    ['Sat, 31 Jan 2026 09:15:20 GMT', 20_000],
    ['Saturday, 31-Jan-26 09:15:20 GMT', 20_000],
    ['Sat, 31 Jan 2026 09:15:00 GMT', 1_000],
    ['Sat, 31 Jan 2026 12:15:00 GMT', 3_600_000],
    ['Sat, 31 Jan 2026 09:14:59 GMT', null],
    ['-1', null],
    ['+1', null],
    ['', null],
    ['soon', null],
    ['3 s', null],
    ['3, 3', null],
    ['0x10', null],
    ['NaN', null],
    ['Infinity', null],
    ['2026-01-31T09:16:00Z', null],
    ['Sat, 99 Jan 2026 09:15:20 GMT', null],
    [undefined, null],
  ];
  for (const [text, expected] of cases) assert.equal(parseRetryAfter(text, now), expected, text);
});

test('whatever a vendor sends as Retry-After, the wait is a second to an hour, or none', () => {
  const texts = fc.oneof(
    fc.string(),
    fc.double().map(String),
    fc.bigInt().map(String),
    fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
  );
  fc.assert(
    fc.property(texts, (text) => {
      const waitMs = parseRetryAfter(text, now);
      assert.ok(waitMs === null || (Number.isInteger(waitMs) && waitMs >= 1_000 && waitMs <= 3_600_000));
    }),
    { numRuns: 2_000 },
  );
});
