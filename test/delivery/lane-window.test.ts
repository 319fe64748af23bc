import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { LaneWindow, type Entry } from '../../src/delivery/lane-window.ts';
import type { DeliverableEvent } from '../../src/destinations/definition.ts';
import { userKeyOf } from '../../src/lib/ids.ts';

function eventOf(position: number, user: number): DeliverableEvent {
  return {
    position,
    messageId: `m-${position}`,
    type: 'track',
    event: 'e',
    userId: `u${user}`,
    anonymousId: null,
    userKey: userKeyOf(`u${user}`, null),
    receivedAt: '',
    timestamp: '',
    text: '{}',
    payload: {},
  };
}

/** What may happen to a lane, as a list of steps that a seeded random walk draws from. */
const history = fc.record({
  users: fc.array(fc.nat(5), { minLength: 30, maxLength: 60 }),
  steps: fc.array(
    fc.record({
      kind: fc.constantFrom('add', 'add', 'add', 'end', 'end', 'park', 'write', 'unpark', 'crash'),
      pick: fc.nat(1_000),
    }),
    {
      minLength: 100,
      maxLength: 400,
    },
  ),
});

test('random histories: per-user order, no event lost, cursor never past what has not ended', () => {
  fc.assert(
    fc.property(history, ({ users, steps }) => {
      const ended = new Map<number, number>();
      // What the database knows: the cursor, the ended positions above it, and the parked users.
      const stored = { cursor: 0, endedAbove: [] as number[], parked: new Map<string, number>() };
      let window = new LaneWindow(0, [], []);
      let readTo = 0;
      let ready: Entry[] = [];
      const pendingParks = new Map<string, number>();
      const write = () => {
        const progress = window.progress(pendingParks.size > 0);
        if (!progress) return;
        for (const user of progress.skippedUsers) {
          if (!stored.parked.has(user) && !pendingParks.has(user)) {
            ready.push(...window.setParked([...stored.parked.keys()], new Set(pendingParks.keys())));
            return;
          }
        }
        for (const [user, position] of pendingParks) stored.parked.set(user, position);
        pendingParks.clear();
        stored.cursor = progress.to;
        stored.endedAbove = [...progress.endedAbove];
        window.confirm(progress);
        ready.push(...window.setParked([...stored.parked.keys()], new Set()));
      };
      const isEnded = (position: number) => ended.has(position);
      for (const step of steps) {
        if (step.kind === 'add' && readTo < users.length) {
          readTo++;
          const entry = window.add(eventOf(readTo, users[readTo - 1] as number), true);
          if (entry) ready.push(entry);
        } else if (step.kind === 'end' && ready.length > 0) {
          const [entry] = ready.splice(step.pick % ready.length, 1) as [Entry];
          const earlier =
            users.findIndex((user, index) => `u:u${user}` === entry.userKey && !isEnded(index + 1)) + 1;
          assert.ok(earlier === 0 || earlier >= entry.position, `${entry.position} overtook ${earlier}`);
          ended.set(entry.position, (ended.get(entry.position) ?? 0) + 1);
          const next = window.end(entry, 'delivered');
          if (next) ready.push(next);
        } else if (step.kind === 'park' && ready.length > 0) {
          const [entry] = ready.splice(step.pick % ready.length, 1) as [Entry];
          pendingParks.set(entry.userKey, entry.position);
          window.park(entry);
        } else if (step.kind === 'write') write();
        else if (step.kind === 'unpark' && stored.parked.size > 0) {
          // The retry: every event of the user up to the cursor ends, then the user is handed back.
          const keys = [...stored.parked.keys()];
          const key = keys[step.pick % keys.length] as string;
          const from = stored.parked.get(key) as number;
          if (from > stored.cursor) continue;
          for (let position = from; position <= stored.cursor; position++) {
            if (`u:u${users[position - 1]}` === key) ended.set(position, (ended.get(position) ?? 0) + 1);
          }
          stored.parked.delete(key);
        } else if (step.kind === 'crash') {
          window = new LaneWindow(stored.cursor, stored.endedAbove, [...stored.parked.keys()]);
          readTo = stored.cursor;
          ready = [];
          pendingParks.clear();
        }
        for (let position = 1; position <= stored.cursor; position++) {
          const parkedFrom = stored.parked.get(`u:u${users[position - 1]}`);
          assert.ok(
            isEnded(position) || (parkedFrom !== undefined && parkedFrom <= position),
            `the cursor passed ${position}`,
          );
        }
      }
    }),
    { numRuns: 1_000 },
  );
});

test('counts every event once, over refused and confirmed progress', () => {
  const window = new LaneWindow(10, [12], []);
  const first = window.add(eventOf(11, 1), true) as Entry;
  assert.equal(window.add(eventOf(12, 2), true), null, 'ended before the take-over');
  assert.equal(window.add(eventOf(13, 1), true), null, 'waits for its user');
  assert.equal(window.add(eventOf(14, 3), false), null, 'filtered');
  assert.deepEqual(window.progress(false)?.endedAbove, [12, 14]);
  const next = window.end(first, 'delivered') as Entry;
  const progress = window.progress(false);
  assert.deepEqual([progress?.from, progress?.to, progress?.delivered, progress?.filtered], [10, 12, 1, 1]);
  window.end(next, 'dead');
  window.confirm(progress as NonNullable<typeof progress>);
  const last = window.progress(false);
  assert.deepEqual([last?.from, last?.to, last?.delivered, last?.dead, last?.filtered], [12, 14, 0, 1, 0]);
  window.confirm(last as NonNullable<typeof last>);
  assert.equal(window.isIdle, true);
  assert.equal(window.progress(false), null);
});

test('an empty window moves to the upper bound of a feed that was read to its end', () => {
  const window = new LaneWindow(5, [], []);
  window.finishAt(90);
  assert.equal(window.isIdle, false);
  const progress = window.progress(false);
  assert.equal(progress?.to, 90);
  window.confirm(progress);
  assert.equal(window.isIdle, true);
});
