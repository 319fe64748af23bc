import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Replay } from '../../src/replay/list.ts';
import { createProgressMeter } from '../../src/replay/progress.ts';

function replay(parts: Partial<Replay>): Replay {
  return {
    id: 1,
    destinationId: 1,
    selection: {},
    order: 'alongside',
    state: 'running',
    total: 1000,
    delivered: 0,
    dead: 0,
    filtered: 0,
    ratePerSecond: null,
    createdAt: '',
    finishedAt: null,
    ageSeconds: 10,
    ...parts,
  };
}

test('unknown without a pace, except under a limit', () => {
  assert.equal(createProgressMeter().etaSeconds(replay({})), null);
  assert.equal(createProgressMeter().etaSeconds(replay({ ratePerSecond: 50 })), 20);
});

test('the first look goes by the pace since the start, later ones by the last half minute', () => {
  const meter = createProgressMeter();
  assert.equal(meter.etaSeconds(replay({ delivered: 100, ageSeconds: 100 })), 900);
  // Paused for long, then fast: 200 in 2 seconds.
  assert.equal(meter.etaSeconds(replay({ delivered: 300, ageSeconds: 102 })), 7);
  // A limit below the pace counts.
  assert.equal(meter.etaSeconds(replay({ delivered: 300, ageSeconds: 102, ratePerSecond: 10 })), 70);
  // Half a minute later the fast start is forgotten.
  assert.equal(meter.etaSeconds(replay({ delivered: 400, ageSeconds: 150 })), Math.ceil(600 / (400 / 150)));
  assert.equal(meter.etaSeconds(replay({ delivered: 410, ageSeconds: 160 })), 590);
});

test('ended, standing and finished replays', () => {
  const meter = createProgressMeter();
  assert.equal(meter.etaSeconds(replay({ state: 'completed', delivered: 1000 })), 0);
  assert.equal(meter.etaSeconds(replay({ delivered: 900, dead: 50, filtered: 50 })), 0);
  for (const state of ['paused', 'cancelled'] as const)
    assert.equal(meter.etaSeconds(replay({ state, delivered: 5 })), null);
});

test('a standstill is shown as unknown, not as for ever', () => {
  const meter = createProgressMeter();
  meter.etaSeconds(replay({ delivered: 10, ageSeconds: 10 }));
  assert.equal(meter.etaSeconds(replay({ delivered: 10, ageSeconds: 12 })), null);
});
