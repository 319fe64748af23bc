import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outcomeOfError } from '../../src/delivery/outcome.ts';
import { RequestError, type RequestErrorCode } from '../../src/delivery/request-error.ts';

test('what may pass is tried again, a mistake in the settings pauses the destination', () => {
  const meaning: Record<RequestErrorCode, 'retry' | 'pause'> = {
    timeout: 'retry',
    dns: 'retry',
    connection: 'retry',
    aborted: 'retry',
    blocked_address: 'pause',
    invalid_request: 'pause',
  };
  for (const [code, expected] of Object.entries(meaning)) {
    const outcome = outcomeOfError(new RequestError(code as RequestErrorCode, 'In words.'));
    assert.deepEqual(
      outcome,
      expected === 'retry'
        ? { kind: 'retry', reason: 'In words.' }
        : { kind: 'rejected', reason: 'In words.', destination: 'pause' },
    );
  }
});

test('a bug in a destination is tried again, and its text is not shown', () => {
  for (const thrown of [
    new TypeError('CANARY is undefined'),
    'CANARY',
    null,
    undefined,
    { reason: 'CANARY' },
  ]) {
    const outcome = outcomeOfError(thrown);
    assert.equal(outcome.kind, 'retry');
    assert.doesNotMatch(JSON.stringify(outcome), /CANARY/);
  }
});
