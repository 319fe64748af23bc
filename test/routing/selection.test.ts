import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalInstant, matchesSelection } from '../../src/routing/selection.ts';

test('instants become UTC with microseconds', () => {
  const cases = [
    ['2026-01-31', '2026-01-31T00:00:00.000000Z'],
    ['2026-01-31T09:15:00Z', '2026-01-31T09:15:00.000000Z'],
    ['2026-01-31T09:15', '2026-01-31T09:15:00.000000Z'],
    ['2026-01-31T09:15:00.5+02:00', '2026-01-31T07:15:00.500000Z'],
    ['2026-01-31 09:15:00.123456789-0130', '2026-01-31T10:45:00.123456Z'],
    ['2024-02-29T23:59:59.999999z', '2024-02-29T23:59:59.999999Z'],
  ];
  for (const [text = '', canonical] of cases) assert.equal(canonicalInstant(text), canonical, text);
});

test('what is no instant is refused', () => {
  for (const text of [
    '',
    'yesterday',
    '2026',
    '2026-02-30',
    '2026-13-01',
    '2026-01-31T25:00Z',
    '1769850900000',
    "2026-01-31'--",
  ]) {
    assert.equal(canonicalInstant(text), null, text);
  }
});

test('times compare to the microsecond, also where Postgres leaves out zeros at the end', () => {
  const cases: [receivedAt: string, bound: string, isAtOrAfter: boolean][] = [
    ['2026-01-31T09:15:00.12345Z', '2026-01-31T09:15:00.123451Z', false],
    ['2026-01-31T09:15:00.12345Z', '2026-01-31T09:15:00.123450Z', true],
    ['2026-01-31T09:15:00Z', '2026-01-31T09:15:00.000001Z', false],
    ['2026-01-31T09:15:00Z', '2026-01-31T09:15:00.000000Z', true],
  ];
  for (const [receivedAt, bound, expected] of cases) {
    const event = { position: 1, sourceId: 1, type: 'track', event: null, userId: null, receivedAt };
    assert.equal(matchesSelection({ from: bound }, event), expected, `${receivedAt} from ${bound}`);
    assert.equal(matchesSelection({ to: bound }, event), !expected, `${receivedAt} to ${bound}`);
  }
});
