/** The judge of the fault tests finds each violation it is for; one that finds nothing would make them worthless. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type History,
  judge,
  type SentEvent,
  type StoredRow,
  type Verdict,
  violationsOf,
} from './history.ts';
import type { Answer, Attempt } from './receiver.ts';

const users = ['ann', 'bob'] as const;

/** Events 1 to 6 in turn of ann and bob: ann has 1, 3, 5 and bob 2, 4, 6. */
function sentEvents(): SentEvent[] {
  return [1, 2, 3, 4, 5, 6].map((position) => ({
    messageId: `m${position}`,
    userId: users[(position - 1) % 2] as string,
    anonymousId: null,
    seq: Math.ceil(position / 2),
    properties: { seq: Math.ceil(position / 2), note: `of ${position}` },
  }));
}

function storedRows(events: readonly SentEvent[]): StoredRow[] {
  return events.map(({ messageId, userId, anonymousId, properties }, index) => ({
    position: index + 1,
    messageId,
    userId,
    anonymousId,
    properties,
  }));
}

/** An attempt of the event at a position, from one time to another. */
function attempt(
  position: number,
  times: [number, number | null],
  answer: Answer | null = { status: 200 },
): Attempt {
  const sent = sentEvents()[position - 1];
  return {
    position,
    messageId: `m${position}`,
    replayId: null,
    userId: sent?.userId ?? null,
    anonymousId: null,
    seq: sent?.seq ?? null,
    event: { properties: { ...sent?.properties } },
    earlier: 0,
    arrivedAt: times[0],
    endedAt: times[1],
    answer,
    unheard: false,
  };
}

/** Each event delivered once, one after the other, 10 ms each. */
function deliveredInOrder(): Attempt[] {
  return [1, 2, 3, 4, 5, 6].map((position) => attempt(position, [position * 10, position * 10 + 5]));
}

function history(attempts: readonly Attempt[] = deliveredInOrder(), rest: Partial<History> = {}): History {
  const acknowledged = sentEvents();
  return { acknowledged, stored: storedRows(acknowledged), feeds: [{ name: 'd', attempts }], ...rest };
}

/** Exactly this many violations of each kind, and none of another. */
function assertFound(verdict: Verdict, expected: Partial<Record<keyof Verdict, number>>): void {
  const counts = Object.fromEntries(
    Object.entries(verdict as unknown as Record<string, string[] | number>)
      .map(([name, found]) => [name, typeof found === 'number' ? found : found.length] as const)
      .filter(([, count]) => count > 0),
  );
  assert.deepEqual(counts, expected, JSON.stringify(verdict));
}

test('a clean history has no violation', () => {
  const verdict = judge(history());
  assertFound(verdict, {});
  assert.deepEqual(violationsOf(verdict), {});
});

test('an event that was acknowledged and is not stored is lost', () => {
  const whole = history();
  const stored = whole.stored.slice(0, 5);
  assertFound(judge({ ...whole, stored, feeds: [{ name: 'd', attempts: deliveredInOrder().slice(0, 5) }] }), {
    lost: 1,
  });
});

test('an event stored under two positions is found, and must be delivered under both', () => {
  const whole = history();
  const again = { ...(whole.stored[0] as StoredRow), position: 7 };
  assertFound(judge({ ...whole, stored: [...whole.stored, again] }), { storedTwice: 1, missing: 1 });
});

test('an event stored before an earlier one of its user is found', () => {
  const acknowledged = sentEvents();
  const [first, second, third, ...rest] = acknowledged as [SentEvent, SentEvent, SentEvent, ...SentEvent[]];
  const stored = storedRows([third, second, first, ...rest]);
  assertFound(judge({ acknowledged, stored, feeds: [] }), { storedOutOfOrder: 1 });
});

test('other content in the log or in a delivery is a change', () => {
  const whole = history();
  const stored = whole.stored.with(2, { ...(whole.stored[2] as StoredRow), properties: { seq: 2 } });
  assertFound(judge({ ...whole, stored }), { changed: 1 });
  const broken = { ...attempt(3, [30, 35]), event: { properties: { seq: 2, note: 'of 4' } } };
  assertFound(judge(history(deliveredInOrder().with(2, broken))), { changed: 1 });
});

test('an event that never ended at the receiver is missing: not sent, only failed, or still in flight', () => {
  const [one, two, three, four] = deliveredInOrder() as [Attempt, Attempt, Attempt, Attempt];
  assertFound(judge(history([one, two, three, four, attempt(5, [50, 55], { status: 500 })])), { missing: 2 });
  assertFound(judge(history([one, two, three, four, attempt(5, [50, null], null)])), { missing: 2 });
});

test('a refusal and a dead letter end an event; 401, 429 and a redirect do not', () => {
  const ends = deliveredInOrder();
  assertFound(judge(history(ends.with(2, attempt(3, [30, 35], { status: 400 })))), {});
  for (const status of [401, 408, 429, 302, 500]) {
    const verdict = judge(history(ends.with(4, attempt(5, [50, 55], { status }))));
    assertFound(verdict, { missing: 1 });
  }
  const without = ends.filter((each) => each.position !== 3);
  const feeds = [{ name: 'd', attempts: without, deadLetters: new Set([3]) }];
  assertFound(judge({ ...history(), feeds }), {});
});

test('what a receiver gets beyond its set is found', () => {
  const feeds = [{ name: 'replay', attempts: deliveredInOrder(), expected: new Set([1, 2, 4, 6]) }];
  assertFound(judge({ ...history(), feeds }), { unexpected: 2 });
  assertFound(judge(history([...deliveredInOrder(), attempt(9, [90, 95])])), { unexpected: 1 });
});

test("a user's events that end out of order are found, and their attempts are overtakes", () => {
  const swapped = [attempt(3, [10, 15]), attempt(1, [20, 25]), attempt(5, [30, 35])];
  const others = [attempt(2, [11, 16]), attempt(4, [21, 26]), attempt(6, [31, 36])];
  assertFound(judge(history([...swapped, ...others])), { outOfOrder: 1, overtakes: 1 });
});

test('an attempt beside an earlier event of the same user is an overtake, though they end in order', () => {
  const ann = [attempt(1, [10, 30]), attempt(3, [20, 40]), attempt(5, [50, 55])];
  const bob = [attempt(2, [10, 15]), attempt(4, [20, 25]), attempt(6, [30, 35])];
  assertFound(judge(history([...ann, ...bob])), { overtakes: 1 });
});

test('an attempt after a failure of an earlier event is an overtake, even if it fails as well', () => {
  const ann = [
    attempt(1, [10, 15], { status: 500 }),
    attempt(3, [20, 25], { status: 500 }),
    attempt(1, [30, 35]),
    attempt(3, [40, 45]),
    attempt(5, [50, 55]),
  ];
  assertFound(judge(history([...ann, ...deliveredInOrder().filter((each) => each.position % 2 === 0)])), {
    overtakes: 1,
  });
});

test('an attempt while an earlier event is being sent a second time is an overtake', () => {
  const ann = [attempt(1, [10, 15]), attempt(1, [20, 40]), attempt(3, [30, 35]), attempt(5, [50, 55])];
  assertFound(judge(history([...ann, ...deliveredInOrder().filter((each) => each.position % 2 === 0)])), {
    overtakes: 1,
    duplicates: 1,
  });
});

test('events sent again in their order after a crash are duplicates and nothing else', () => {
  const again = [attempt(3, [100, 105]), attempt(5, [110, 115])];
  assertFound(judge(history([...deliveredInOrder(), ...again])), { duplicates: 2 });
});

test('order holds over a shared anonymous id too: what a visitor did comes before who he became', () => {
  const visitor = { messageId: 'm1', userId: null, anonymousId: 'v', seq: 1, properties: {} };
  const known = { messageId: 'm2', userId: 'ann', anonymousId: 'v', seq: 1, properties: {} };
  const acknowledged = [visitor, known];
  const stored = storedRows(acknowledged);
  const base = {
    replayId: null,
    seq: 1,
    event: { properties: {} },
    earlier: 0,
    answer: { status: 200 },
    unheard: false,
  };
  const first = { ...base, ...visitor, position: 1, arrivedAt: 20, endedAt: 25 };
  const second = { ...base, ...known, position: 2, arrivedAt: 10, endedAt: 15 };
  assertFound(judge({ acknowledged, stored, feeds: [{ name: 'd', attempts: [first, second] }] }), {
    outOfOrder: 1,
    overtakes: 1,
  });
});

test('an attempt before a Retry-After has run out is too early, unless nobody can know of it', () => {
  const throttled = [
    attempt(1, [1_000, 1_005], { status: 429, retryAfterSeconds: 1 }),
    attempt(1, [1_500, 1_505]),
    attempt(3, [2_100, 2_105]),
    attempt(5, [2_200, 2_205]),
  ];
  const attempts = [...throttled, ...deliveredInOrder().filter((each) => each.position % 2 === 0)];
  assertFound(judge(history(attempts)), { tooEarly: 1 });
  assertFound(judge(history(attempts, { kills: [1_200] })), {});
  assertFound(judge(history(attempts.with(0, { ...(attempts[0] as Attempt), unheard: true }))), {});
  assertFound(judge(history(attempts, { kills: [900, 2_300] })), { tooEarly: 1 });
});

test("another user's Retry-After holds nobody up, and a 500 with one is no promise", () => {
  const ann = [
    attempt(1, [1_000, 1_005], { status: 500, retryAfterSeconds: 1 }),
    attempt(1, [1_500, 1_505]),
    attempt(3, [1_510, 1_515]),
    attempt(5, [1_520, 1_525]),
  ];
  const bob = [
    attempt(2, [1_000, 1_005], { status: 429, retryAfterSeconds: 1 }),
    attempt(2, [2_010, 2_015]),
    attempt(4, [2_020, 2_025]),
    attempt(6, [2_030, 2_035]),
  ];
  assertFound(judge(history([...ann, ...bob])), {});
});

test('many violations are told in a few lines', () => {
  const verdict = judge({ ...history([]), feeds: [{ name: 'd', attempts: [] }] });
  assert.deepEqual(violationsOf(verdict)['missing']?.slice(4), ['d: ann at position 5 (m5)', 'and 1 more']);
});
