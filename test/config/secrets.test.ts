import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSealer, createSecretReader, referencedVariable, SealError } from '../../src/config/secrets.ts';

const phrase = 'a phrase of more than sixteen characters';
const older = 'an older phrase, without the comma'.replaceAll(',', '');
const place = 'destination:12:secret';

test('what was sealed opens in its place, and no two sealings look alike', () => {
  const sealer = createSealer(phrase);
  const sealed = sealer.seal('CANARY-7f3 ✓', place);
  assert.equal(sealer.open(sealed, place), 'CANARY-7f3 ✓');
  assert.notEqual(sealer.seal('CANARY-7f3 ✓', place), sealed);
  assert.ok(!sealed.includes('CANARY') && !Buffer.from(sealed, 'base64url').includes('CANARY'));
});

test('a sealed text does not open elsewhere, after a change, or with another key', () => {
  const sealer = createSealer(phrase);
  const sealed = sealer.seal('secret', place);
  const [version, keyId, nonce, body = ''] = sealed.split('.');
  const flipped = `${body.startsWith('A') ? 'B' : 'A'}${body.slice(1)}`;
  const broken = [
    [sealed, 'destination:13:secret', /belongs elsewhere/],
    [[version, keyId, nonce, flipped].join('.'), place, /was changed/],
    [[version, keyId, nonce, body.slice(0, 8)].join('.'), place, /damaged/],
    ['v1.', place, /damaged/],
    ['plain text', place, /damaged/],
  ] as const;
  for (const [text, context, message] of broken) {
    assert.throws(
      () => sealer.open(text, context),
      (error) => error instanceof SealError && message.test(error.message),
    );
  }
  assert.throws(() => createSealer(older).open(sealed, place), /no longer holds/);
});

test('several keys: the first seals, all open', () => {
  const old = createSealer(older).seal('secret', place);
  const both = createSealer(`${phrase}, ${older}`);
  assert.equal(both.open(old, place), 'secret');
  assert.equal(both.isCurrent(old), false);
  const anew = both.seal('secret', place);
  assert.equal(both.isCurrent(anew), true);
  assert.equal(createSealer(phrase).open(anew, place), 'secret');
});

test('a short key is refused, also beside a long one', () => {
  assert.throws(() => createSealer('short'), /16 characters/);
  assert.throws(() => createSealer(`${phrase},short`), /16 characters/);
});

test('references are read at run time, but never the program’s own secrets', () => {
  const variables = new Map([
    ['VENDOR_KEY', 'first'],
    ['SECRET_KEY', phrase],
  ]);
  const read = createSecretReader({
    sealer: createSealer(phrase),
    readEnvironment: (name) => variables.get(name),
  });
  assert.equal(read('env:VENDOR_KEY', place), 'first');
  variables.set('VENDOR_KEY', 'second');
  assert.equal(read('env:VENDOR_KEY', place), 'second');
  assert.throws(() => read('env:MISSING', place), /MISSING is not set/);
  for (const name of ['SECRET_KEY', 'ADMIN_TOKEN', 'DATABASE_URL', 'WRITE_KEY', 'PGPASSWORD']) {
    assert.throws(() => read(`env:${name}`, place), SealError);
  }
  assert.equal(referencedVariable('env:NAME'), 'NAME');
  assert.equal(referencedVariable('env:not a name'), null);
});
