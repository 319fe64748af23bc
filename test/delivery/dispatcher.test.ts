/**
 * What goes to one destination from one process: how many calls at once, in which order of precedence, and what
 * happens when the destination fails as a whole. The destination here is one whose calls the test ends by hand.
 */
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { test, type TestContext } from 'node:test';
import * as fc from 'fast-check';
import { Dispatcher, stopped, type Lineup, type OutletSettings } from '../../src/delivery/dispatcher.ts';
import { createRequester, type Requester } from '../../src/delivery/request.ts';
import {
  defineDestination,
  type DeliverableEvent,
  type DestinationContext,
  type Outcome,
} from '../../src/destinations/definition.ts';
import { deliverableEvent } from '../support/destination-suite.ts';
import { startVendor } from '../support/vendor.ts';

const delivered: Outcome = { kind: 'delivered', status: 200 };
const failed: Outcome = { kind: 'retry', reason: 'The endpoint answered 500.', status: 500 };

/** A call in flight. */
interface Call {
  readonly event: DeliverableEvent;
  readonly ctx: DestinationContext;
  /** Ends it, and waits until the dispatcher has drawn its conclusions. */
  end(outcome?: Outcome): Promise<void>;
}

const never: Requester['request'] = () => assert.fail('no request is made here');

/** A dispatcher whose calls gather in `calls` until the test ends them. */
function create(concurrency: number) {
  const calls: Call[] = [];
  const state = { maySend: true };
  const definition = defineDestination({
    slug: 'by-hand',
    name: 'By hand',
    description: 'Calls end when the test says so.',
    docs: [],
    accepts: ['track'],
    limits: { concurrency, timeoutMs: 1_000, batchEvents: 1 },
    replay: { oldestEventHours: null, honoursEventTime: true, dedupeKey: null, sideEffects: null },
    send: ([event], ctx) =>
      new Promise((resolve) => {
        calls.push({
          event: event as DeliverableEvent,
          ctx,
          async end(outcome = delivered) {
            calls.splice(calls.indexOf(this), 1);
            resolve([outcome]);
            await turn();
          },
        });
      }),
  });
  const outlet: OutletSettings = { definition, settings: {}, concurrency, secrets: [] };
  const dispatcher = new Dispatcher(outlet, { request: never, maySend: () => state.maySend });
  return { calls, dispatcher, outlet, state, names: () => calls.map(({ event }) => event.messageId) };
}

const eventOf = (messageId: string, userId = messageId) =>
  deliverableEvent({ type: 'track', event: 'Tested', messageId, userId });

/** A line of events, named `<name>-0`, `<name>-1` …, each of another user. */
function line(name: string, count: number, replayId: string | null = null) {
  const waiting = Array.from({ length: count }, (_, index) => eventOf(`${name}-${index}`));
  const ended: Outcome[] = [];
  const lineup: Lineup = {
    kind: replayId === null ? 'live' : 'replay',
    replayId,
    next() {
      const event = waiting.shift();
      return event && { event, ended: (outcome) => ended.push(outcome) };
    },
  };
  return { ...lineup, waiting, ended };
}

test('no more calls are in flight than the limit; as one ends the next begins', async () => {
  const { calls, dispatcher, names } = create(3);
  const live = line('live', 5);
  dispatcher.attach(live);
  dispatcher.pump();
  dispatcher.pump();
  assert.deepEqual(names(), ['live-0', 'live-1', 'live-2']);
  await calls[1]?.end();
  assert.deepEqual(names(), ['live-0', 'live-2', 'live-3']);
  for (let call = calls[0]; call; call = calls[0]) await call.end();
  assert.equal(live.ended.length, 5);
  assert.equal(dispatcher.inFlight, 0);
});

test('live events go before replays, which get what live leaves over', async () => {
  const { calls, dispatcher, names } = create(4);
  const [replay, live] = [line('replay', 10, 'rpl_1'), line('live', 3)];
  dispatcher.attach(replay);
  dispatcher.attach(live);
  dispatcher.pump();
  assert.deepEqual(names(), ['live-0', 'live-1', 'live-2', 'replay-0']);
  assert.deepEqual(
    calls.map(({ ctx }) => ctx.replayId),
    [null, null, null, 'rpl_1'],
  );
  live.waiting.push(eventOf('live-late'));
  await calls[3]?.end();
  assert.deepEqual(names(), ['live-0', 'live-1', 'live-2', 'live-late']);
});

test('while live events flow, replays have at most half of the calls; without them, all', async () => {
  const { calls, dispatcher, names } = create(8);
  const [replay, live] = [line('replay', 50, 'rpl_1'), line('live', 1)];
  dispatcher.attach(replay);
  dispatcher.attach(live);
  dispatcher.pump();
  assert.equal(names().filter((name) => name.startsWith('replay')).length, 4);
  await calls[1]?.end();
  assert.equal(calls.length, 5, 'one replayed event more for the one that ended');
  await calls.find(({ ctx }) => ctx.replayId === null)?.end();
  assert.equal(calls.length, 8, 'nothing live is in flight any more');
  live.waiting.push(eventOf('live-1'));
  dispatcher.pump();
  assert.equal(calls.length, 8);
  await calls[0]?.end();
  assert.ok(names().includes('live-1'));
  for (let ended = 0; ended < 4; ended++) await calls.find(({ ctx }) => ctx.replayId !== null)?.end();
  assert.equal(names().filter((name) => name.startsWith('replay')).length, 4);
});

test('with a limit of one a replay goes on whenever no live event waits', async () => {
  const { calls, dispatcher, names } = create(1);
  const [replay, live] = [line('replay', 3, 'rpl_1'), line('live', 1)];
  dispatcher.attach(replay);
  dispatcher.attach(live);
  dispatcher.pump();
  const sent = [...names()];
  await calls[0]?.end();
  sent.push(...names());
  live.waiting.push(eventOf('live-1'));
  await calls[0]?.end();
  sent.push(...names());
  await calls[0]?.end();
  sent.push(...names());
  assert.deepEqual(sent, ['live-0', 'replay-0', 'live-1', 'replay-1']);
});

test('several replays take turns, and one that is detached gets none', async () => {
  const { calls, dispatcher, names } = create(1);
  const lines = ['a', 'b', 'c'].map((name) => line(name, 9, `rpl_${name}`));
  for (const each of lines) dispatcher.attach(each);
  dispatcher.pump();
  const sent: string[] = [];
  for (let count = 0; count < 6; count++) {
    sent.push(names()[0]?.[0] ?? '');
    await calls[0]?.end();
  }
  assert.deepEqual(sent, ['a', 'b', 'c', 'a', 'b', 'c']);
  dispatcher.detach(lines[1] as Lineup);
  for (let count = 0; count < 4; count++) {
    await calls[0]?.end();
    assert.notEqual(names()[0]?.[0], 'b');
  }
});

/** An attempt for a parked user. */
function retryOf(messageId: string, isStale = () => false) {
  const ended: Outcome[] = [];
  const task = {
    event: eventOf(messageId),
    replayId: null,
    isStale,
    ended: (outcome: Outcome) => ended.push(outcome),
  };
  return { task, ended };
}

test('a parked user’s attempt goes before whatever waits in the lanes', async () => {
  const { calls, dispatcher, names } = create(1);
  dispatcher.attach(line('live', 5));
  dispatcher.pump();
  const [first, second] = [retryOf('retry-0'), retryOf('retry-1')];
  dispatcher.retry(first.task);
  dispatcher.retry(second.task);
  const sent: string[] = [];
  for (let count = 0; count < 4; count++) {
    sent.push(...names());
    await calls[0]?.end();
  }
  assert.deepEqual(sent, ['live-0', 'retry-0', 'retry-1', 'live-1']);
  assert.deepEqual([first.ended, second.ended], [[delivered], [delivered]]);
});

test('attempts that became stale are ended unsent, those that did not stay in order', async () => {
  const { calls, dispatcher, names } = create(1);
  dispatcher.attach(line('live', 1));
  dispatcher.pump();
  const stale = new Set<string>();
  const tasks = ['a', 'b', 'c', 'd'].map((name) => retryOf(name, () => stale.has(name)));
  for (const { task } of tasks) dispatcher.retry(task);
  stale.add('b');
  dispatcher.dropStaleRetries();
  assert.deepEqual(
    tasks.map(({ ended }) => ended),
    [[], [stopped], [], []],
  );
  // One that is found stale when its turn comes is not sent either.
  stale.add('a');
  await calls[0]?.end();
  assert.deepEqual(names(), ['c']);
  assert.deepEqual(tasks[0]?.ended, [stopped]);
  await calls[0]?.end();
  assert.deepEqual(names(), ['d']);
});

test('nothing new is sent while the leases are not known to be good', async () => {
  const { calls, dispatcher, state } = create(4);
  const live = line('live', 4);
  state.maySend = false;
  dispatcher.attach(live);
  const { task, ended } = retryOf('retry');
  dispatcher.retry(task);
  dispatcher.pump();
  assert.deepEqual([calls.length, live.waiting.length, ended], [0, 4, []]);
  state.maySend = true;
  dispatcher.pump();
  assert.equal(calls.length, 4);
});

/** Fails calls until the circuit opens. */
async function openCircuit({ calls, dispatcher }: ReturnType<typeof create>): Promise<void> {
  while (!dispatcher.isFailing) await calls[0]?.end(failed);
  while (calls.length > 0) await calls[0]?.end(failed);
}

function freezeTime(context: TestContext): void {
  context.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_000_000 });
}

test('a destination that fails as a whole gets one probe at a time; after a success capacity comes back', async (context) => {
  freezeTime(context);
  const made = create(16);
  const { calls, dispatcher, names } = made;
  dispatcher.attach(line('live', 1_000));
  dispatcher.pump();
  await openCircuit(made);
  for (const pauseMs of [1_000, 2_000, 4_000, 5_000]) {
    context.mock.timers.tick(pauseMs - 1);
    dispatcher.pump();
    assert.deepEqual(names(), []);
    context.mock.timers.tick(1);
    assert.equal(calls.length, 1, `one probe after ${pauseMs} ms, without anybody asking`);
    context.mock.timers.tick(60_000);
    dispatcher.pump();
    assert.equal(calls.length, 1, 'and no second beside it');
    await calls[0]?.end(failed);
  }
  context.mock.timers.tick(5_000);
  await calls[0]?.end();
  assert.equal(calls.length, 2);
  for (const expected of [4, 8, 16]) {
    for (let count = calls.length; count > 0; count--) await calls[0]?.end();
    assert.equal(calls.length, expected);
  }
  assert.equal(dispatcher.isFailing, false);
});

test('a parked user’s attempt may be the probe', async (context) => {
  freezeTime(context);
  const made = create(16);
  made.dispatcher.attach(line('live', 100));
  made.dispatcher.pump();
  await openCircuit(made);
  const { task } = retryOf('retry');
  made.dispatcher.retry(task);
  assert.deepEqual(made.names(), []);
  context.mock.timers.tick(1_000);
  assert.deepEqual(made.names(), ['retry']);
});

test('told to come later for several users, nothing is sent to any before that time', async (context) => {
  freezeTime(context);
  const { calls, dispatcher } = create(3);
  dispatcher.attach(line('live', 100));
  dispatcher.pump();
  const later: Outcome = {
    kind: 'retry',
    reason: 'The endpoint answered 429.',
    status: 429,
    retryAfterMs: 7_000,
  };
  await calls[0]?.end(later);
  await calls[0]?.end(later);
  assert.equal(calls.length, 3, 'so far it may be these users’ own limit');
  await calls[0]?.end(later);
  while (calls.length > 0) await calls[0]?.end();
  context.mock.timers.tick(6_999);
  dispatcher.pump();
  assert.equal(calls.length, 0);
  context.mock.timers.tick(1);
  assert.equal(calls.length, 3);
});

test('new settings hold from the next call on', async () => {
  const { calls, dispatcher, outlet } = create(1);
  dispatcher.attach(line('live', 3));
  dispatcher.pump();
  dispatcher.update({ ...outlet, settings: { key: 'new' }, concurrency: 2 });
  assert.deepEqual(calls[0]?.ctx.settings, {});
  await calls[0]?.end();
  assert.deepEqual(
    calls.map(({ ctx }) => ctx.settings),
    [{ key: 'new' }, { key: 'new' }],
  );
});

test('a destination that throws, gives no outcome or rejects is tried again, and the next events go on', async () => {
  const { dispatcher, outlet } = create(1);
  for (const send of [
    () => {
      throw new TypeError('CANARY');
    },
    () => Promise.reject(new Error('CANARY')),
    () => Promise.resolve([]),
  ]) {
    const live = line('live', 2);
    dispatcher.update({ ...outlet, definition: { ...outlet.definition, send } });
    dispatcher.attach(live);
    dispatcher.pump();
    while (live.ended.length < 2) await turn();
    for (const outcome of live.ended) {
      assert.equal(outcome.kind, 'retry');
      assert.doesNotMatch(outcome.reason, /CANARY/);
    }
    dispatcher.detach(live);
  }
});

test('what is recorded of a failure holds no secret of the settings', async () => {
  const { calls, dispatcher, outlet } = create(1);
  dispatcher.update({ ...outlet, secrets: ['CANARY-7f3'] });
  const live = line('live', 2);
  dispatcher.attach(live);
  dispatcher.pump();
  const refused: Outcome = {
    kind: 'rejected',
    reason: 'No CANARY-7f3',
    status: 400,
    response: '{"k":"CANARY-7f3"}',
  };
  await calls[0]?.end(refused);
  await calls[0]?.end({ kind: 'retry', reason: 'Not CANARY-7f3' });
  assert.deepEqual(live.ended, [
    { kind: 'rejected', reason: 'No [redacted]', status: 400, response: '{"k":"[redacted]"}' },
    { kind: 'retry', reason: 'Not [redacted]' },
  ]);
});

test('a call has the customer’s time limit, else the request’s own, else the type’s; close gives it up', async (context) => {
  const vendor = await startVendor(['never']);
  const requester = createRequester({ allowPrivateAddresses: true });
  context.after(() => vendor.close());
  context.after(() => requester.close());
  const { outlet } = create(1);
  const reasonOf = (own: { timeoutMs?: number }, chosen: { timeoutMs?: number }) => {
    const definition = defineDestination({
      ...outlet.definition,
      limits: { ...outlet.definition.limits, timeoutMs: 30 },
      send: async (_events, ctx) => {
        await ctx.request({ method: 'POST', url: vendor.origin, ...own });
        return [delivered];
      },
    });
    const { request } = requester;
    const dispatcher = new Dispatcher({ ...outlet, definition, ...chosen }, { request, maySend: () => true });
    const live = line('live', 1);
    dispatcher.attach(live);
    dispatcher.pump();
    return { dispatcher, live };
  };
  for (const [own, chosen, seconds] of [
    [{}, {}, '0.03'],
    [{ timeoutMs: 60 }, {}, '0.06'],
    [{ timeoutMs: 60 }, { timeoutMs: 90 }, '0.09'],
  ] as const) {
    const { live } = reasonOf(own, chosen);
    while (live.ended.length === 0) await turn();
    assert.deepEqual(live.ended, [
      { kind: 'retry', reason: `The endpoint did not answer within ${seconds} s.` },
    ]);
  }
  vendor.play(['never']);
  const { dispatcher, live } = reasonOf({ timeoutMs: 60_000 }, {});
  await vendor.received(1);
  dispatcher.close();
  while (live.ended.length === 0) await turn();
  assert.deepEqual(live.ended, [{ kind: 'retry', reason: 'Delivery was stopped.' }]);
  await vendor.requests[0]?.closed;
});

/** What may happen, as a list of steps that a seeded random walk draws from. */
const history = fc.array(
  fc.record({
    kind: fc.constantFrom('live', 'replay', 'retry', 'ok', 'ok', 'ok', 'refused', 'pump'),
    pick: fc.nat(1_000),
  }),
  { minLength: 100, maxLength: 300 },
);

test('random histories: the limits always hold, every event is sent once, nothing stands still', async () => {
  await fc.assert(
    fc.asyncProperty(history, fc.integer({ min: 1, max: 9 }), async (steps, limit) => {
      const { calls, dispatcher } = create(limit);
      const lines = [line('live', 0), line('a', 0, 'rpl_1'), line('b', 0, 'rpl_2')];
      for (const each of lines) dispatcher.attach(each);
      let added = 0;
      const sent = new Set<string>();
      const look = () => {
        assert.ok(calls.length <= limit);
        assert.equal(dispatcher.inFlight, calls.length);
        for (const { event } of calls) sent.add(event.messageId);
        const waiting = lines.reduce((sum, each) => sum + each.waiting.length, 0);
        const replays = calls.filter(({ ctx }) => ctx.replayId !== null).length;
        const mayBeHeld = replays >= Math.max(1, limit >> 1) && replays < calls.length;
        assert.ok(calls.length === limit || waiting === 0 || mayBeHeld, 'something waits though it could go');
      };
      for (const { kind, pick } of steps) {
        if (kind === 'live' || kind === 'replay') {
          const each = lines[kind === 'live' ? 0 : 1 + (pick % 2)];
          each?.waiting.push(eventOf(`e-${added++}`));
          dispatcher.pump();
        } else if (kind === 'retry') dispatcher.retry(retryOf(`e-${added++}`).task);
        else if (kind === 'pump') dispatcher.pump();
        else {
          const outcome: Outcome =
            kind === 'ok' ? delivered : { kind: 'rejected', reason: 'no', status: 400 };
          await calls[pick % Math.max(1, calls.length)]?.end(outcome);
        }
        look();
      }
      while (calls.length > 0) {
        await calls[0]?.end();
        look();
      }
      assert.equal(sent.size, added);
    }),
    { numRuns: 150 },
  );
});
