/** The webhook: what every destination does, and signatures that a stranger's library verifies. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, beforeEach, test } from 'node:test';
import * as fc from 'fast-check';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';
import { reservedHeaders } from '../../src/delivery/request.ts';
import { webhookId } from '../../src/destinations/webhook.ts';
import { DestinationBench, deliverableEvent, testDestination } from '../support/destination-suite.ts';

const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=';
const settings = {
  url: 'https://receiver.example/hooks/repeater?tenant=7',
  secret,
  headers: { authorization: 'Bearer CANARY-7f3-of-the-receiver', 'X-Team': 'growth' },
};

testDestination({
  slug: 'webhook',
  settings,
  attemptHeaders: ['webhook-timestamp', 'webhook-signature'],
  replayHeaders: ['x-replay-id'],
  refusals: [
    {
      title: 'a body that is too large',
      answer: { status: 413, body: 'too large' },
      meaning: 'rejected',
      reason: /^The endpoint answered 413 Payload Too Large\.$/,
    },
    {
      title: 'an endpoint that has moved',
      answer: { status: 308, headers: { location: 'https://receiver.example/new' } },
      meaning: 'retry',
      reason: /redirects are not followed/,
    },
  ],
});

let bench: DestinationBench;
before(async () => {
  bench = await DestinationBench.open('webhook');
});
beforeEach(() => bench.vendor.play([{ status: 204 }]));
after(() => bench.close());

const event = (payload: Record<string, unknown> = {}) =>
  deliverableEvent({ type: 'track', event: 'Tested', userId: 'u-1', messageId: 'm-1', ...payload });

/** What the receiver got last. */
function received() {
  const request = bench.vendor.requests.at(-1);
  assert.ok(request);
  const headers = Object.fromEntries(
    Object.entries(request.headers).map(([name, value]) => [name, String(value)]),
  );
  return { body: request.body, headers };
}

test('the signature is verified by Standard Webhooks, over exactly the bytes that came', async () => {
  const verifier = new Webhook(secret);
  for (const payload of [{}, { properties: { text: 'für ✓ \u2028 "' } }, { messageId: 'a.b/ü' }]) {
    await bench.deliver(event(payload), { settings });
    const { body, headers } = received();
    assert.deepEqual(verifier.verify(body, headers), event(payload).payload);
    assert.throws(() => verifier.verify(`${body} `, headers), WebhookVerificationError);
    assert.throws(
      () => verifier.verify(body, { ...headers, 'webhook-id': 'another' }),
      WebhookVerificationError,
    );
    const other = `whsec_${randomBytes(32).toString('base64')}`;
    assert.throws(() => new Webhook(other).verify(body, headers), WebhookVerificationError);
  }
});

test('a replay of an old event is signed anew, so that a receiver does not take it for a repeated request', async () => {
  const old = { ...event(), receivedAt: '2020-01-01T00:00:00Z', timestamp: '2020-01-01T00:00:00Z' };
  await bench.deliver(old, { settings, replayId: 'rpl_3' });
  const { body, headers } = received();
  new Webhook(secret).verify(body, headers);
  assert.equal(headers['x-replay-id'], 'rpl_3');
});

test('live deliveries carry no x-replay-id', async () => {
  await bench.deliver(event(), { settings });
  assert.ok(!('x-replay-id' in received().headers));
});

test('webhook-id is the message id: the same over retries and replays, different for different events', async () => {
  const ids: (string | undefined)[] = [];
  for (const attempt of [{ replayId: null }, { replayId: null }, { replayId: 'rpl_3' }]) {
    await bench.deliver(event({ messageId: 'm-7' }), { settings, ...attempt });
    ids.push(received().headers['webhook-id']);
  }
  assert.deepEqual(ids, ['m-7', 'm-7', 'm-7']);
});

test('any message id becomes an id of header characters without a dot, and can be read back', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', minLength: 1, maxLength: 255 }), (text) => {
      const messageId = text.toWellFormed();
      const id = webhookId(messageId);
      assert.match(id, /^[\x21-\x7e]+$/);
      assert.ok(!id.includes('.'));
      assert.equal(decodeURIComponent(id), messageId);
    }),
    { numRuns: 1_000 },
  );
  assert.equal(webhookId('node-next-1769850900000-3f1c_A'), 'node-next-1769850900000-3f1c_A');
});

test('events with hostile message ids arrive and verify', async () => {
  for (const messageId of ['a.b.c', '..', 'x\r\ny: z', 'ü', '100%', '%2E', '💥', ' ', '"', 'a,b;c']) {
    const outcome = await bench.deliver(event({ messageId }), { settings });
    assert.equal(outcome.kind, 'delivered', messageId);
    const { body, headers } = received();
    new Webhook(secret).verify(body, headers);
    assert.equal(decodeURIComponent(headers['webhook-id'] ?? ''), messageId);
  }
});

test('the customer’s headers are sent, and cannot replace ours', async () => {
  await bench.deliver(event(), { settings });
  const { headers } = received();
  assert.equal(headers['authorization'], 'Bearer CANARY-7f3-of-the-receiver');
  assert.equal(headers['x-team'], 'growth');
  // Not what the schema lets through; the destination does not rely on it.
  await bench.deliver(event(), { settings: { ...settings, headers: { 'webhook-id': 'forged' } } });
  assert.equal(received().headers['webhook-id'], 'm-1');
});

test('the time limit of the settings holds for the whole exchange', async () => {
  for (const behaviour of ['never', { dripMs: 10 }] as const) {
    bench.vendor.play([behaviour]);
    const outcome = await bench.deliver(event(), { settings: { ...settings, timeoutSeconds: 0.2 } });
    assert.deepEqual(outcome, { kind: 'retry', reason: 'The endpoint did not answer within 0.2 s.' });
  }
});

test('a header of the settings that the vendor repeats is recorded without its secret', async () => {
  bench.vendor.play(({ headers }) => ({ status: 400, body: `bad: ${headers.authorization}` }));
  const outcome = await bench.deliver(event(), { settings });
  assert.equal(outcome.kind === 'rejected' && outcome.response, 'bad: [redacted]');
});

const accepts = (change: Record<string, unknown>) =>
  bench.type.validateSettings({ ...settings, ...change }).length === 0;

test('headers that the client, the connection or the signature owns are refused by the schema', () => {
  const ours = ['webhook-id', 'webhook-timestamp', 'webhook-signature', 'x-replay-id', 'x-repeater-position'];
  for (const name of [...reservedHeaders, ...ours, 'content-type']) {
    for (const spelled of [name, name.toUpperCase(), name[0]?.toUpperCase() + name.slice(1)])
      assert.equal(accepts({ headers: { [spelled]: 'x' } }), false, spelled);
  }
  for (const name of ['authorization', 'x-host', 'hostess', 'webhook-ids', 'x-te', 'cookie'])
    assert.equal(accepts({ headers: { [name]: 'x' } }), true, name);
});

test('a header name or value that would break out of its line is refused by the schema', () => {
  for (const value of ['a\r\nb: c', 'a\nb', 'a\rb', '\0', 'ü', '\u2028', '\x7f'])
    assert.equal(accepts({ headers: { 'x-a': value } }), false, JSON.stringify(value));
  for (const name of ['', 'a b', 'a:b', 'a\r\nb', 'ü', 'a\0', 'a(b)', 'x'.repeat(129)])
    assert.equal(accepts({ headers: { [name]: 'x' } }), false, JSON.stringify(name));
  for (const value of ['', 'Bearer abc', 'a\tb', '~!@#$%^&*()'])
    assert.equal(accepts({ headers: { 'x-a': value } }), true, value);
  assert.equal(accepts({ headers: { a: 1 } }), false);
  assert.equal(accepts({ headers: { a: 'x'.repeat(4_097) } }), false);
});

test('whatever header the schema lets through is sent as it is', async () => {
  const nameUnit = fc.constantFrom(...Array.from("!#$%&'*+.^_`|~0129AZaz-"));
  const valueUnit = fc.integer({ min: 0x20, max: 0x7e }).map((code) => String.fromCharCode(code));
  const header = fc.tuple(
    fc.string({ unit: nameUnit, minLength: 1, maxLength: 20 }),
    fc.string({ unit: valueUnit, maxLength: 40 }),
  );
  await fc.assert(
    fc.asyncProperty(header, async ([name, value]) => {
      fc.pre(accepts({ headers: { [name]: value } }));
      const outcome = await bench.deliver(event(), { settings: { ...settings, headers: { [name]: value } } });
      assert.equal(outcome.kind, 'delivered');
      // Spaces at either end are no part of a header's value.
      assert.equal(received().headers[name.toLowerCase()], value.trim());
    }),
    { numRuns: 100 },
  );
});

test('a signing secret is 24 to 64 bytes in base64', () => {
  for (let bytes = 16; bytes <= 80; bytes++) {
    const given = `whsec_${randomBytes(bytes).toString('base64')}`;
    assert.equal(accepts({ secret: given }), bytes >= 24 && bytes <= 64, `${bytes} bytes`);
  }
  for (const bad of ['', 'whsec_', secret.slice(6), `${secret}x`, `${secret.slice(0, -2)}*=`, 'whsec_$'])
    assert.equal(accepts({ secret: bad }), false, bad);
});

test('a webhook without a secret gets one that the schema and the verifier take; a given one stays', async () => {
  const { complete } = bench.type.definition;
  assert.ok(complete);
  const made = complete({ url: settings.url }, randomBytes);
  assert.deepEqual(bench.type.validateSettings(made), []);
  assert.notEqual(made['secret'], complete({ url: settings.url }, randomBytes)['secret']);
  assert.equal(complete(settings, randomBytes)['secret'], secret);
  await bench.deliver(event(), { settings: made });
  const { body, headers } = received();
  new Webhook(String(made['secret'])).verify(body, headers);
});
