import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { defaultRetryPolicy, isGivenUp, retryDelayMs, type RetryPolicy } from '../../src/delivery/backoff.ts';

const policies: fc.Arbitrary<RetryPolicy> = fc.record({
  initialMs: fc.integer({ min: 1, max: 60_000 }),
  maxMs: fc.integer({ min: 1, max: 86_400_000 }),
  spanMs: fc.nat(604_800_000),
  minAttempts: fc.integer({ min: 1, max: 100 }),
});
const attempts = fc.integer({ min: 1, max: 1_000_000 });
/** Math.random gives 0 and up, never 1. */
const random = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });

const longest = (made: number, policy: RetryPolicy) => retryDelayMs(made, policy, () => 1 - 2 ** -53);

test('a delay is a whole number of milliseconds from zero to the bound of its attempt', () => {
  fc.assert(
    fc.property(attempts, policies, random, (made, policy, drawn) => {
      const delay = retryDelayMs(made, policy, () => drawn);
      assert.ok(Number.isSafeInteger(delay) && delay >= 0);
      assert.ok(delay <= longest(made, policy));
      assert.ok(delay <= policy.maxMs);
      if (made === 1) assert.ok(delay <= policy.initialMs);
    }),
  );
});

test('the bound doubles with each attempt until the cap, and stays there', () => {
  const bounds = Array.from({ length: 14 }, (_, index) => longest(index + 1, defaultRetryPolicy));
  const seconds = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600, 600];
  // One millisecond less: the draw is below one.
  assert.deepEqual(
    bounds,
    seconds.map((each) => each * 1_000 - 1),
  );
  fc.assert(
    fc.property(attempts, policies, (made, policy) => {
      assert.ok(longest(made + 1, policy) >= longest(made, policy));
    }),
  );
});

test('full jitter: the whole range is drawn from', () => {
  const delays = [0, 0.25, 0.5, 0.75].map((drawn) => retryDelayMs(3, defaultRetryPolicy, () => drawn));
  assert.deepEqual(delays, [0, 1_000, 2_000, 3_000]);
});

test('an event is given up after both the span and the attempts, never before', () => {
  fc.assert(
    fc.property(
      fc.record({ failingMs: fc.nat(1_000_000_000), attempts: fc.nat(200) }),
      policies,
      (failing, policy) => {
        const spanIsOver = failing.failingMs >= policy.spanMs;
        const triedEnough = failing.attempts >= policy.minAttempts;
        assert.equal(isGivenUp(failing, policy), spanIsOver && triedEnough);
      },
    ),
  );
  const day = 86_400_000;
  assert.equal(isGivenUp({ failingMs: day - 1, attempts: 1_000 }, defaultRetryPolicy), false);
  assert.equal(isGivenUp({ failingMs: 10 * day, attempts: 9 }, defaultRetryPolicy), false);
  assert.equal(isGivenUp({ failingMs: day, attempts: 10 }, defaultRetryPolicy), true);
});

test('by default the ten attempts never outlast the day', () => {
  const ten = Array.from({ length: 10 }, (_, index) => longest(index + 1, defaultRetryPolicy));
  assert.ok(ten.reduce((sum, delay) => sum + delay, 0) < defaultRetryPolicy.spanMs);
});
