/**
 * The circuit of a destination: a failure is one user's until it looks like everybody's; then one probe at a
 * time, and capacity comes back in steps. Time is an argument here.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { Circuit } from '../../src/delivery/circuit.ts';

const limit = 64;

type Kind = Parameters<Circuit['record']>[0]['kind'];

/** Calls of different users, one after the other, ended at `now`. */
function end(
  circuit: Circuit,
  kind: Kind,
  calls: { count: number; now: number; users?: number; from?: number },
) {
  const { count, now, users = count, from = 0 } = calls;
  for (let index = 0; index < count; index++) {
    circuit.record({ userKey: `u:${from + (index % users)}`, kind, retryAfterMs: 3_000 }, now);
  }
}

/** A circuit that has opened at `now`. */
function opened(now: number): Circuit {
  const circuit = new Circuit();
  end(circuit, 'failed', { count: 10, now });
  assert.equal(circuit.state(now), 'open');
  return circuit;
}

test('one user, or nine, may fail for ever: the others go on', () => {
  for (const users of [1, 9]) {
    const circuit = new Circuit();
    for (let now = 0; now < 60_000; now += 100) {
      end(circuit, 'failed', { count: users, now, users });
      assert.equal(circuit.capacity(now, limit), limit);
      assert.equal(circuit.state(now), 'closed');
    }
  }
});

test('it opens when half of the last calls failed, of ten users', () => {
  const circuit = new Circuit();
  end(circuit, 'ok', { count: 25, now: 0, from: 100 });
  end(circuit, 'failed', { count: 24, now: 0 });
  assert.equal(circuit.state(0), 'closed', '24 of 49');
  end(circuit, 'failed', { count: 1, now: 0, from: 50 });
  assert.equal(circuit.state(0), 'open', '25 of 50');
  assert.equal(circuit.capacity(0, limit), 0);
});

test('failures below half leave it closed, however many users they have', () => {
  const circuit = new Circuit();
  for (let user = 0; user < 1_000; user++) {
    end(circuit, 'ok', { count: 2, now: user, from: 5_000 });
    end(circuit, 'failed', { count: 1, now: user, from: user });
    assert.equal(circuit.state(user), 'closed');
  }
});

test('an answer about the event is no failure, and old failures are forgotten', () => {
  const circuit = new Circuit();
  end(circuit, 'refused', { count: 100, now: 0 });
  assert.equal(circuit.state(0), 'closed');
  end(circuit, 'failed', { count: 9, now: 0 });
  end(circuit, 'failed', { count: 1, now: 30_001, from: 50 });
  assert.equal(circuit.state(30_001), 'closed', 'nine of the ten are older than half a minute');
});

test('while open nothing goes out; then one probe, after 1, 2, 4 and from then on 5 seconds', () => {
  let now = 1_000;
  const circuit = opened(now);
  for (const pause of [1_000, 2_000, 4_000, 5_000, 5_000, 5_000]) {
    assert.equal(circuit.nextChangeAt(now), now + pause);
    assert.equal(circuit.capacity(now + pause - 1, limit), 0);
    now += pause;
    assert.equal(circuit.capacity(now, limit), 1);
    assert.equal(circuit.state(now), 'probing');
    assert.equal(circuit.nextChangeAt(now), null, 'only the probe’s result changes it');
    end(circuit, 'failed', { count: 1, now });
  }
});

test('calls that were in flight when it opened change nothing when they end', () => {
  const circuit = opened(0);
  end(circuit, 'ok', { count: 30, now: 500 });
  end(circuit, 'failed', { count: 30, now: 600 });
  assert.equal(circuit.state(600), 'open');
  assert.equal(circuit.nextChangeAt(600), 1_000);
});

test('a probe that gets through, or is refused for its own sake, lets capacity come back in doubling steps', () => {
  for (const kind of ['ok', 'refused'] as const) {
    const circuit = opened(0);
    circuit.capacity(1_000, limit);
    end(circuit, kind, { count: 1, now: 1_000 });
    for (const step of [2, 4, 8, 16, 32]) {
      assert.equal(circuit.state(1_000), 'ramping');
      assert.equal(circuit.capacity(1_000, limit), step);
      end(circuit, 'ok', { count: step - 1, now: 1_000 });
      assert.equal(circuit.capacity(1_000, limit), step, 'the step has not ended');
      end(circuit, 'ok', { count: 1, now: 1_000 });
    }
    assert.equal(circuit.capacity(1_000, limit), limit);
    assert.equal(circuit.state(1_000), 'closed');
    // What failed before does not count any more, and the pauses begin anew.
    end(circuit, 'failed', { count: 9, now: 1_100 });
    assert.equal(circuit.state(1_100), 'closed');
    end(circuit, 'failed', { count: 1, now: 1_100, from: 70 });
    assert.equal(circuit.nextChangeAt(1_100), 2_100);
  }
});

test('a step of which most failed opens it again, with the longer pause; a few failures do not', () => {
  const circuit = opened(0);
  circuit.capacity(1_000, limit);
  end(circuit, 'ok', { count: 3, now: 1_000 });
  assert.equal(circuit.capacity(1_000, limit), 4);
  end(circuit, 'failed', { count: 2, now: 1_000 });
  end(circuit, 'ok', { count: 2, now: 1_000 });
  assert.equal(circuit.capacity(1_000, limit), 8, 'half of a step may fail');
  end(circuit, 'failed', { count: 5, now: 1_000 });
  assert.equal(circuit.state(1_000), 'open');
  assert.equal(circuit.nextChangeAt(1_000), 3_000);
});

test('a destination that says "come later" to a few users is held for all; to one user it is not', () => {
  const one = new Circuit();
  end(one, 'throttled', { count: 40, now: 0, users: 2 });
  assert.equal(one.capacity(0, limit), limit);
  const few = new Circuit();
  end(few, 'ok', { count: 9, now: 0, from: 100 });
  end(few, 'throttled', { count: 2, now: 0 });
  assert.equal(few.state(0), 'closed');
  end(few, 'throttled', { count: 1, now: 5, from: 9 });
  assert.equal(few.state(5), 'held');
  assert.deepEqual([few.capacity(3_004, limit), few.nextChangeAt(5)], [0, 3_005]);
  assert.deepEqual([few.capacity(3_005, limit), few.state(3_005)], [limit, 'closed']);
});

test('"come later" to three users among many is theirs alone', () => {
  const circuit = new Circuit();
  for (let user = 0; user < 10; user++) {
    end(circuit, 'ok', { count: 9, now: user, from: 100 });
    end(circuit, 'throttled', { count: 1, now: user, from: user });
    assert.equal(circuit.state(user), 'closed');
  }
});

test('a probe that is told to come later opens it again', () => {
  const circuit = opened(0);
  circuit.capacity(1_000, limit);
  end(circuit, 'throttled', { count: 1, now: 1_000 });
  assert.equal(circuit.state(1_000), 'open');
  assert.equal(circuit.nextChangeAt(1_000), 3_000);
});

/** Any sequence of results and looks, with time going on. */
const history = fc.array(
  fc.record({
    kind: fc.constantFrom<Kind>('ok', 'failed', 'throttled', 'refused'),
    user: fc.nat(30),
    retryAfterMs: fc.nat(10_000),
    laterMs: fc.oneof(fc.nat(50), fc.nat(8_000)),
    looks: fc.boolean(),
  }),
  { maxLength: 300 },
);

test('whatever happens, capacity stays within the limit and comes back by itself', () => {
  fc.assert(
    fc.property(history, fc.integer({ min: 1, max: 300 }), (steps, most) => {
      const circuit = new Circuit();
      let now = 0;
      for (const { kind, user, retryAfterMs, laterMs, looks } of steps) {
        now += laterMs;
        if (looks) {
          const capacity = circuit.capacity(now, most);
          assert.ok(capacity >= 0 && capacity <= most, `${capacity} of ${most}`);
        }
        circuit.record({ userKey: `u:${user}`, kind, retryAfterMs }, now);
      }
      // With no result at all it must let something out again in the time it names, or at once.
      for (let changes = 0; changes < 3 && circuit.capacity(now, most) === 0; changes++) {
        const at = circuit.nextChangeAt(now);
        assert.ok(at !== null && at > now && at <= now + 10_000, `stands until ${at}`);
        now = at;
      }
      assert.ok(circuit.capacity(now, most) >= 1, `nothing goes out in the state ${circuit.state(now)}`);
      // And once calls get through it is closed after some of them.
      for (let calls = 0; calls < 4 * most + 64; calls++) {
        circuit.record({ userKey: 'u:0', kind: 'ok' }, now);
        circuit.capacity(now, most);
      }
      assert.equal(circuit.capacity(now, most), most);
    }),
    { numRuns: 500 },
  );
});
