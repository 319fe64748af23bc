/** Whatever a vendor repeats of a request, the destination's secrets are not recorded. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { createRedaction, secretsOf } from '../../src/delivery/redact.ts';

const refused = (response: string, reason = 'The endpoint answered 400 Bad Request.') =>
  ({ kind: 'rejected', reason, status: 400, response }) as const;

test('secrets are the texts of the settings that the schema marks, at any depth', () => {
  const settingsSchema = {
    properties: { url: {}, key: { writeOnly: true }, headers: { writeOnly: true } },
  };
  const settings = { url: 'https://a.example', key: 'k1', headers: { a: 'k2', b: ['k3', 4] }, unknown: 'x' };
  assert.deepEqual(secretsOf({ settingsSchema }, settings), ['k1', 'k2', 'k3']);
});

test('a secret is found as it is, in JSON, in a URL and as the token of an authorization', () => {
  const redact = createRedaction(['Bearer abc"def/ghi', 'short']);
  for (const echo of [
    'authorization: Bearer abc"def/ghi',
    '{"token":"abc\\"def/ghi"}',
    'token=abc%22def%2Fghi&',
    'the key abc"def/ghi is unknown',
  ]) {
    const { response } = redact(refused(echo)) as { response: string };
    assert.match(response, /\[redacted\]/);
    assert.doesNotMatch(response, /def|ghi/);
  }
  assert.equal(redact({ kind: 'retry', reason: 'no abc"def/ghi' }).reason, 'no [redacted]');
  assert.equal((redact(refused('a short word')) as { response: string }).response, 'a short word');
});

test('a secret is found inside base64, wherever it begins', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: 'grapheme-ascii', minLength: 8, maxLength: 60 }).filter((text) => !/\s/.test(text)),
      fc.string({ maxLength: 9 }),
      fc.string({ maxLength: 9 }),
      (secret, before, behind) => {
        const basic = Buffer.from(`${before}${secret}${behind}`).toString('base64');
        const { response } = createRedaction([secret])(refused(`Basic ${basic}`)) as { response: string };
        const kept = Buffer.from(response.replace(/^Basic /, '').replace('[redacted]', ''), 'base64');
        assert.ok(!kept.toString().includes(secret));
        assert.match(response, /\[redacted\]/);
      },
    ),
  );
});

test('what holds no secret comes back as the same object', () => {
  const redact = createRedaction(['canary-7f3']);
  for (const outcome of [
    refused('{"error":"bad"}'),
    { kind: 'retry', reason: 'x', retryAfterMs: 5 } as const,
    { kind: 'rejected', reason: 'x', destination: 'pause' } as const,
  ]) {
    assert.equal(redact(outcome), outcome);
  }
});
