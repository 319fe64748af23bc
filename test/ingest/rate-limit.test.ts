/** A key sends its rate and no more; who waits as long as it was told may send again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createRateLimit } from '../../src/ingest/rate-limit.ts';
import { AppError } from '../../src/lib/errors.ts';

function waitOf(send: () => void): number | undefined {
  try {
    send();
    return 0;
  } catch (error) {
    assert.ok(error instanceof AppError);
    assert.equal(error.code, 'rate_limited');
    return error.retryAfterSeconds;
  }
}

test('a second holds as many events as the rate says, for each key by itself', () => {
  let now = 0;
  const limit = createRateLimit(10, () => now);
  for (let sent = 0; sent < 10; sent++)
    assert.equal(
      waitOf(() => limit.take('a', 1)),
      0,
    );
  assert.equal(
    waitOf(() => limit.take('a', 1)),
    1,
  );
  assert.equal(
    waitOf(() => limit.check('a')),
    1,
  );
  assert.equal(
    waitOf(() => limit.take('b', 1)),
    0,
  );
  assert.equal(
    waitOf(() => limit.check('c')),
    0,
  );
  now += 100;
  assert.equal(
    waitOf(() => limit.take('a', 1)),
    0,
  );
  assert.equal(
    waitOf(() => limit.take('a', 1)),
    1,
  );
  // What was not used for an hour is not saved.
  now += 3_600_000;
  for (let sent = 0; sent < 10; sent++)
    assert.equal(
      waitOf(() => limit.take('a', 1)),
      0,
    );
  assert.equal(
    waitOf(() => limit.take('a', 1)),
    1,
  );
});

test('a batch longer than the rate is taken and paid back; the time told is enough and not much more', () => {
  let now = 0;
  const limit = createRateLimit(10, () => now);
  assert.equal(
    waitOf(() => limit.take('a', 100)),
    0,
  );
  const wait = waitOf(() => limit.take('a', 100)) ?? 0;
  assert.equal(wait, 10);
  now += (wait - 1) * 1_000;
  assert.equal(
    waitOf(() => limit.take('a', 100)),
    1,
  );
  now += 1_000;
  assert.equal(
    waitOf(() => limit.take('a', 100)),
    0,
  );
});
