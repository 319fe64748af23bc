import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  lanesCount,
  laneOf,
  newAdminToken,
  newWriteKey,
  parsePublicId,
  publicId,
  secretsEqual,
  userKeyOf,
  type IdPrefix,
} from '../../src/lib/ids.ts';

const prefixes = fc.constantFrom<IdPrefix>('src', 'dst', 'rpl');

test('a user key is the user’s once it is known, else the anonymous one, and the two never meet', () => {
  assert.equal(userKeyOf('1', 'x'), 'u:1');
  assert.equal(userKeyOf(null, 'x'), 'a:x');
  assert.equal(userKeyOf(null, null), 'a:');
  fc.assert(
    fc.property(fc.string(), fc.string(), (user, anonymous) => {
      assert.notEqual(userKeyOf(user, null), userKeyOf(null, anonymous));
    }),
  );
});

test('lanes are what they were when the first installation was made', () => {
  // Computed by another program from the description of the hash. A change here breaks the order of stored users.
  const lanes: [string, number][] = [
    ['u:', 21],
    ['a:', 10],
    ['u:1', 6],
    ['u:2', 19],
    ['a:1', 20],
    ['u:u-1', 6],
    ['u:ada@example.com', 9],
    ['a:4b1f0d5a-6e0c-4a5e-9d0a-6f7f0f3c2b11', 6],
    ['u:Ünïcödé', 30],
    ['u:💥', 17],
    [`u:${'x'.repeat(512)}`, 11],
  ];
  for (const [userKey, lane] of lanes) assert.equal(laneOf(userKey), lane, userKey);
});

test('a lane is a whole number from 0 to 31, the same each time, for any text', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 600 }), (text) => {
      const lane = laneOf(text);
      assert.ok(Number.isInteger(lane) && lane >= 0 && lane < lanesCount);
      assert.equal(laneOf(text), lane);
    }),
    { numRuns: 1_000 },
  );
});

test('ids as people make them spread evenly over the lanes', () => {
  const count = 32_000;
  const families: Record<string, (index: number) => string> = {
    numbers: (index) => `u:${index}`,
    'numbers in steps of 32': (index) => `u:${index * 32}`,
    'padded numbers': (index) => `u:${String(index).padStart(10, '0')}`,
    mails: (index) => `u:user${index}@example.com`,
    'uuids of one prefix': (index) => `a:00000000-0000-4000-8000-${index.toString(16).padStart(12, '0')}`,
  };
  for (const [name, idOf] of Object.entries(families)) {
    const lanes = Array.from({ length: lanesCount }, () => 0);
    for (let index = 0; index < count; index++) {
      const lane = laneOf(idOf(index));
      lanes[lane] = (lanes[lane] ?? 0) + 1;
    }
    const [least, most] = [Math.min(...lanes), Math.max(...lanes)];
    assert.ok(least > 850 && most < 1_150, `${name}: ${least} to ${most} of 1000`);
  }
});

test('a public id reads back as the number it was made of, and only with its own prefix', () => {
  fc.assert(
    fc.property(prefixes, prefixes, fc.integer({ min: 1, max: 999_999_999 }), (prefix, other, id) => {
      const text = publicId(prefix, id);
      assert.equal(parsePublicId(prefix, text), id);
      if (other !== prefix) assert.equal(parsePublicId(other, text), null);
    }),
  );
});

test('what is no public id is none, whatever it is', () => {
  for (const text of [
    '',
    'src',
    'src_',
    'src_0',
    'src_01',
    'src_-1',
    'src_1.5',
    'src_1e3',
    'SRC_1',
    ' src_1',
    'src_1\n',
  ])
    assert.equal(parsePublicId('src', text), null, JSON.stringify(text));
  assert.equal(parsePublicId('src', 'src_1234567890'), null, 'beyond what a column holds');
  fc.assert(
    fc.property(
      prefixes,
      fc.oneof(
        fc.string(),
        fc.string().map((text) => `src_${text}`),
      ),
      (prefix, text) => {
        const id = parsePublicId(prefix, text);
        if (id !== null) assert.equal(publicId(prefix, id), text);
      },
    ),
    { numRuns: 1_000 },
  );
});

test('keys and tokens are long, of characters that pass anywhere, and never the same', () => {
  const keys = Array.from({ length: 200 }, newWriteKey);
  for (const key of keys) assert.match(key, /^[\w-]{32}$/);
  const tokens = Array.from({ length: 200 }, newAdminToken);
  for (const token of tokens) assert.match(token, /^rpt_[\w-]{43}$/);
  assert.equal(new Set([...keys, ...tokens]).size, 400);
});

test('secrets are equal when they are the same text, of whatever length', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 80 }), fc.string({ maxLength: 80 }), (left, right) => {
      assert.equal(secretsEqual(left, right), left === right);
      assert.equal(secretsEqual(left, left), true);
      assert.equal(secretsEqual(left, `${left} `), false);
    }),
  );
});
