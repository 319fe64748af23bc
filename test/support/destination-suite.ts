/**
 * What every destination that speaks HTTP must do, run against a real server in its vendor's place: the real
 * client, the real dispatcher, the settings checked by the real schema. Golden requests stand beside the tests in
 * fixtures/<slug>.json, with the events that make them; UPDATE_FIXTURES=1 writes down what is sent now.
 */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { Dispatcher } from '../../src/delivery/dispatcher.ts';
import { LaneWindow, type Entry } from '../../src/delivery/lane-window.ts';
import { secretsOf } from '../../src/delivery/redact.ts';
import { createRequester, reservedHeaders, type Requester } from '../../src/delivery/request.ts';
import { loadDestinations, type DestinationType } from '../../src/destinations/catalogue.ts';
import type { DeliverableEvent, EventType, Outcome } from '../../src/destinations/definition.ts';
import { userKeyOf } from '../../src/lib/ids.ts';
import { Queue } from '../../src/lib/queue.ts';
import { startVendor, type Behaviour, type Vendor, type VendorAnswer } from './vendor.ts';

type Settings = Readonly<Record<string, unknown>>;

/** What an outcome means; `pause` and `disable` are for the destination as a whole. */
export type Meaning = 'delivered' | 'retry' | 'rejected' | 'pause' | 'disable';

export interface DestinationSuite {
  readonly slug: string;
  /** Valid for the schema. Addresses are the vendor's own: the suite has its server in their place. */
  readonly settings: Settings;
  /** Headers whose value is the attempt's, such as a timestamp; all others stay the same on a replay. */
  readonly attemptHeaders?: readonly string[];
  /** Headers that replays carry and live deliveries do not. */
  readonly replayHeaders?: readonly string[];
  /** What the vendor answers when all is well; 200 and `{}` if absent. */
  readonly accepted?: VendorAnswer;
  /** Where a status means something else than it does to all others. */
  readonly statuses?: Readonly<Record<number, Meaning>>;
  /** The refusals that the vendor documents. */
  readonly refusals?: readonly {
    readonly title: string;
    readonly answer: Behaviour;
    readonly meaning: Meaning;
    /** Of the reason that the customer reads. */
    readonly reason?: RegExp;
  }[];
  /** What 200 with a body that is no JSON means; delivered if absent. */
  readonly wrongJson?: Meaning;
}

/** An event in a fixture; everything else follows from the payload. */
interface FixtureEvent {
  readonly position: number;
  readonly receivedAt: string;
  readonly timestamp: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

interface GoldenRequest {
  readonly method: string;
  /** As the destination asked for it. */
  readonly url: string;
  /** Without those of the client and the connection. */
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Parsed where it is JSON. */
  readonly body: unknown;
}

interface GoldenCase {
  readonly title: string;
  /** Over the suite's own. */
  readonly settings?: Settings;
  readonly events: readonly FixtureEvent[];
  readonly replayId?: string;
  /** One for each request, where the vendor's answers decide what comes next. */
  readonly answers?: readonly Behaviour[];
  /** All delivered if absent. */
  readonly meanings?: readonly Meaning[];
  readonly requests: readonly GoldenRequest[];
}

/** Time of the golden attempts. */
const attemptAt = Date.parse('2026-01-31T09:15:30.250Z');
const keptBytes = 65_536;

/** The house's table; `destinations/answers.ts` has the sources. */
const meaningOfStatus: Readonly<Record<number, Meaning>> = {
  ...every('delivered', [200, 201, 202, 204, 206]),
  ...every('retry', [301, 302, 303, 307, 308, 408, 423, 425, 429, 500, 501, 502, 503, 504, 507, 520, 599]),
  ...every('rejected', [400, 402, 404, 405, 406, 409, 411, 413, 414, 415, 418, 422, 431, 451, 499]),
  ...every('pause', [401, 403]),
  ...every('disable', [410]),
};

function every(meaning: Meaning, statuses: readonly number[]): Record<number, Meaning> {
  return Object.fromEntries(statuses.map((status) => [status, meaning]));
}

/** An event as delivery hands it to a destination. */
export function deliverableEvent(
  payload: Readonly<Record<string, unknown>>,
  rest: Partial<FixtureEvent> = {},
): DeliverableEvent {
  const id = (field: string) => (typeof payload[field] === 'string' ? payload[field] : null);
  const { position = 1, receivedAt = '2026-01-31T09:15:00.123456Z', timestamp = receivedAt } = rest;
  return {
    position,
    messageId: id('messageId') ?? '',
    type: payload['type'] as EventType,
    event: id('event'),
    userId: id('userId'),
    anonymousId: id('anonymousId'),
    userKey: userKeyOf(id('userId'), id('anonymousId')),
    receivedAt,
    timestamp,
    text: JSON.stringify(payload),
    payload,
  };
}

/** A destination with the vendor's stand-in behind it. */
export class DestinationBench {
  readonly type: DestinationType;
  readonly vendor: Vendor;
  readonly #requester: Requester;

  private constructor(type: DestinationType, vendor: Vendor) {
    this.type = type;
    this.vendor = vendor;
    this.#requester = createRequester({ allowPrivateAddresses: true });
  }

  static async open(slug: string): Promise<DestinationBench> {
    const type = (await loadDestinations()).get(slug);
    assert.ok(type, `there is no destination ${slug}`);
    return new DestinationBench(type, await startVendor());
  }

  async close(): Promise<void> {
    await this.#requester.close();
    await this.vendor.close();
  }

  /** Hands events to the destination, as the attempt at a fixed time. Also says which URLs it asked for. */
  async send(
    events: readonly DeliverableEvent[],
    options: { settings: Settings; replayId?: string | null; attemptAt?: number },
  ): Promise<{ outcomes: readonly Outcome[]; urls: string[] }> {
    const urls: string[] = [];
    const outcomes = await this.type.definition.send(events, {
      settings: options.settings,
      request: (request) => {
        urls.push(request.url);
        return this.#request(request);
      },
      signal: new AbortController().signal,
      attemptAt: options.attemptAt ?? attemptAt,
      replayId: options.replayId ?? null,
    });
    return { outcomes, urls };
  }

  /** Delivers one event as a worker does, and returns what would be recorded of it. */
  deliver(
    event: DeliverableEvent,
    options: { settings: Settings; replayId?: string | null; timeoutMs?: number },
  ): Promise<Outcome> {
    return new Promise((resolve) => {
      const tasks = [{ event, ended: resolve }];
      const { replayId = null } = options;
      const lineup = {
        kind: replayId === null ? 'live' : 'replay',
        replayId,
        next: () => tasks.pop(),
      } as const;
      const dispatcher = this.dispatcher(options.settings, options.timeoutMs);
      dispatcher.attach(lineup);
      dispatcher.pump();
    });
  }

  dispatcher(settings: Settings, timeoutMs?: number, definition = this.type.definition): Dispatcher {
    const outlet = {
      definition,
      settings,
      concurrency: definition.limits.concurrency,
      secrets: secretsOf(this.type, settings),
      ...(timeoutMs !== undefined && { timeoutMs }),
    };
    return new Dispatcher(outlet, { request: this.#request, maySend: () => true });
  }

  /** The real client; only the vendor's host is replaced by its stand-in. */
  readonly #request: Requester['request'] = (request, signal) => {
    const { pathname, search } = new URL(request.url);
    return this.#requester.request({ ...request, url: `${this.vendor.origin}${pathname}${search}` }, signal);
  };
}

/** Registers the tests of a destination. */
export function testDestination(suite: DestinationSuite): void {
  describe(suite.slug, () => {
    const fixture = new URL(`../destinations/fixtures/${suite.slug}.json`, import.meta.url);
    let bench: DestinationBench;
    let cases: GoldenCase[];
    let sample: DeliverableEvent;
    before(async () => {
      bench = await DestinationBench.open(suite.slug);
      cases = JSON.parse(await readFile(fixture, 'utf8')) as GoldenCase[];
      sample = eventsOf(cases[0] as GoldenCase)[0] as DeliverableEvent;
    });
    after(() => bench.close());
    testGolden(suite, fixture, () => ({ bench, cases }));
    testAnswers(suite, () => ({ bench, sample }));
    testFaults(suite, () => ({ bench, sample }));
    testOrder(suite, () => ({ bench, sample }));
  });
}

function testGolden(
  suite: DestinationSuite,
  fixture: URL,
  given: () => { bench: DestinationBench; cases: GoldenCase[] },
): void {
  const volatile = new Set([...(suite.attemptHeaders ?? []), ...(suite.replayHeaders ?? [])]);
  const settingsOf = (each: GoldenCase) => ({ ...suite.settings, ...each.settings });

  test('the settings of its tests are valid, and every type of event it takes has a golden request', () => {
    const { bench, cases } = given();
    for (const each of cases) assert.deepEqual(bench.type.validateSettings(settingsOf(each)), [], each.title);
    const shown = new Set(cases.flatMap((each) => eventsOf(each).map(({ type }) => type)));
    assert.deepEqual(
      [...bench.type.definition.accepts].filter((type) => !shown.has(type)),
      [],
    );
  });

  test('the requests are the golden ones', async () => {
    const { bench, cases } = given();
    const made: GoldenCase[] = [];
    for (const each of cases) {
      bench.vendor.play(each.answers ?? [suite.accepted ?? { json: {} }]);
      const settings = settingsOf(each);
      const { outcomes, urls } = await bench.send(eventsOf(each), {
        settings,
        replayId: each.replayId ?? null,
      });
      assert.deepEqual(
        outcomes.map(meaningOf),
        each.meanings ?? each.events.map(() => 'delivered'),
        each.title,
      );
      made.push({ ...each, requests: goldenOf(bench.vendor, urls) });
    }
    if (process.env['UPDATE_FIXTURES']) await writeFile(fixture, `${JSON.stringify(made, null, 2)}\n`);
    else assert.deepEqual(made, cases);
  });

  test('a replay sends the same bytes; only what belongs to the attempt differs', async () => {
    const { bench, cases } = given();
    for (const each of cases) {
      const sent = [];
      for (const attempt of [
        { attemptAt, replayId: null },
        { attemptAt: attemptAt + 86_400_000, replayId: 'rpl_9' },
      ]) {
        bench.vendor.play(each.answers ?? [suite.accepted ?? { json: {} }]);
        await bench.send(eventsOf(each), { settings: settingsOf(each), ...attempt });
        assert.equal(bench.vendor.requests.length, each.requests.length, each.title);
        sent.push(
          bench.vendor.requests.map(({ method, path, body, headers }) => {
            const stable = Object.entries(headers).filter(([name]) => !volatile.has(name));
            return { method, path, body, headers: Object.fromEntries(stable) };
          }),
        );
        for (const { headers } of bench.vendor.requests) {
          for (const name of suite.attemptHeaders ?? []) assert.ok(name in headers, name);
          for (const name of suite.replayHeaders ?? [])
            assert.equal(headers[name], attempt.replayId ?? undefined, name);
        }
      }
      assert.deepEqual(sent[1], sent[0], each.title);
    }
  });
}

type GivenSample = () => { bench: DestinationBench; sample: DeliverableEvent };

function testAnswers(suite: DestinationSuite, given: GivenSample): void {
  const { settings } = suite;

  test('each status means what it should, and a redirect is not followed', async () => {
    const { bench, sample } = given();
    for (const [status, meaning] of Object.entries({ ...meaningOfStatus, ...suite.statuses })) {
      const location = `${bench.vendor.origin}/elsewhere`;
      bench.vendor.play([{ ...suite.accepted, status: Number(status), headers: { location } }]);
      const outcome = await bench.deliver(sample, { settings });
      assert.equal(meaningOf(outcome), meaning, status);
      assert.equal(outcome.status, Number(status));
      assert.ok(!bench.vendor.requests.some(({ path }) => path === '/elsewhere'));
    }
  });

  for (const { title, answer, meaning, reason } of suite.refusals ?? []) {
    test(`a refusal of the vendor: ${title}`, async () => {
      const { bench, sample } = given();
      bench.vendor.play([answer]);
      const outcome = await bench.deliver(sample, { settings });
      assert.equal(meaningOf(outcome), meaning);
      if (reason) assert.match(outcome.kind === 'delivered' ? '' : outcome.reason, reason);
    });
  }

  test('Retry-After is obeyed, a second to an hour; what is no time is not', async () => {
    const { bench, sample } = given();
    const inAMinute = new Date(Date.now() + 60_000).toUTCString();
    const waits: [sent: string, fromMs: number | null, toMs?: number][] = [
      ['3', 3_000],
      ['0', 1_000],
      ['-1', null],
      ['1e9', 3_600_000],
      ['1000000000', 3_600_000],
      ['rubbish', null],
      ['', null],
      [inAMinute, 50_000, 60_000],
      ['Wed, 21 Oct 2099 07:28:00 GMT', 3_600_000],
      ['Wed, 21 Oct 2015 07:28:00 GMT', null],
    ];
    for (const status of [429, 503]) {
      for (const [sent, fromMs, toMs = fromMs] of waits) {
        bench.vendor.play([{ status, headers: { 'retry-after': sent } }]);
        const outcome = await bench.deliver(sample, { settings });
        assert.equal(outcome.kind, 'retry');
        const waitMs = outcome.retryAfterMs ?? null;
        if (fromMs === null) assert.equal(waitMs, null, sent);
        else assert.ok(waitMs !== null && waitMs >= fromMs && waitMs <= (toMs ?? 0), `${sent}: ${waitMs}`);
      }
    }
  });

  test('a body that is no JSON is judged, not thrown over', async () => {
    const { bench, sample } = given();
    for (const body of ['<html>busy</html>', '{"half":', '', 'null', '[]', '"ok"', '\u0000']) {
      bench.vendor.play([{ headers: { 'content-type': 'application/json' }, body }]);
      const outcome = await bench.deliver(sample, { settings });
      assert.equal(meaningOf(outcome), suite.wrongJson ?? 'delivered', body);
      assert.doesNotMatch(JSON.stringify(outcome), /the log has the error/);
    }
  });

  test('a vendor that repeats the whole request gets no secret into what is recorded', async () => {
    const { bench, sample } = given();
    const secrets = secretsOf(bench.type, settings).filter((secret) => secret.length >= 6);
    for (const status of Object.keys(meaningOfStatus)) {
      bench.vendor.play(({ path, rawHeaders, body }) => ({
        status: Number(status),
        json: { error: `${path} ${rawHeaders.join(' ')} ${body}`, headers: rawHeaders, path, body },
      }));
      const recorded = JSON.stringify(await bench.deliver(sample, { settings }));
      assert.ok(bench.vendor.requests.length > 0);
      for (const secret of secrets) assert.ok(!recorded.includes(secret), `${status}: ${recorded}`);
    }
  });
}

function testFaults(suite: DestinationSuite, given: GivenSample): void {
  const { settings } = suite;

  test('a reset, a cut answer, silence and a body that drips are tried again, in time', async () => {
    const { bench, sample } = given();
    const faults: [behaviour: Behaviour, timeoutMs: number, reason: RegExp][] = [
      ['reset', 30_000, /closed the connection before its answer was complete/],
      [{ ...suite.accepted, cut: true }, 30_000, /closed the connection before its answer was complete/],
      ['never', 250, /did not answer within 0\.25 s/],
      [{ ...suite.accepted, dripMs: 10 }, 250, /did not answer within 0\.25 s/],
      [{ ...suite.accepted, delayMs: 60_000 }, 250, /did not answer within 0\.25 s/],
    ];
    for (const [behaviour, timeoutMs, reason] of faults) {
      bench.vendor.play([behaviour]);
      const begin = performance.now();
      const outcome = await bench.deliver(sample, { settings, timeoutMs });
      assert.equal(outcome.kind, 'retry');
      assert.match(outcome.reason, reason);
      // More than one request may run into its limit one after the other.
      const tookMs = performance.now() - begin;
      assert.ok(tookMs < 10_000, `it took ${tookMs} ms`);
    }
  });

  test('of a huge answer, compressed or not, at most 64 KB are kept', async () => {
    const { bench, sample } = given();
    const huge: Behaviour[] = [
      { status: 400, hugeBytes: 100 * 1024 * 1024 },
      { status: 400, body: '0'.repeat(50 * 1024 * 1024), gzip: true },
      { status: 500, hugeBytes: 100 * 1024 * 1024 },
    ];
    for (const behaviour of huge) {
      bench.vendor.play([behaviour]);
      const outcome = await bench.deliver(sample, { settings, timeoutMs: 10_000 });
      assert.notEqual(outcome.kind, 'delivered');
      assert.ok(Buffer.byteLength(JSON.stringify(outcome)) < 2 * keptBytes);
      const response = outcome.kind === 'rejected' ? (outcome.response ?? '') : '';
      assert.ok(Buffer.byteLength(response) <= keptBytes);
      const [request] = bench.vendor.requests;
      if ((request?.sentBytes ?? 0) > keptBytes) await request?.closed;
      assert.ok(
        (request?.sentBytes ?? Infinity) < 20 * 1024 * 1024,
        `${request?.sentBytes} bytes were taken`,
      );
    }
  });
}

function testOrder(suite: DestinationSuite, given: GivenSample): void {
  test('a user’s events go out in order, none before the one before it has been answered', async () => {
    const { bench, sample } = given();
    const [users, eventsEach] = [5, 8];
    bench.vendor.play(({ index }) => ({ ...(suite.accepted ?? { json: {} }), delayMs: (index * 7) % 20 }));
    const window = new LaneWindow(0, [], []);
    const ready = new Queue<Entry>();
    for (let position = 1; position <= users * eventsEach; position++) {
      const userId = `u-${position % users}`;
      const payload = { ...sample.payload, userId, messageId: `m-${position}` };
      const entry = window.add(deliverableEvent(payload, { position }), true);
      if (entry) ready.push(entry);
    }
    const asking = new Map<string, number>();
    const asked = new Map<string, number[]>();
    // Kept, not thrown: a destination that does not wait for its request would not see it.
    const overtakes: string[] = [];
    let mostAtOnce = 0;
    const watched: typeof bench.type.definition = {
      ...bench.type.definition,
      send: (events, ctx) =>
        bench.type.definition.send(events, {
          ...ctx,
          async request(request) {
            const { userKey, position } = events[0] as DeliverableEvent;
            const other = asking.get(userKey) ?? position;
            if (other !== position) overtakes.push(`${position} was begun while ${other} was under way`);
            asking.set(userKey, position);
            asked.set(userKey, [...(asked.get(userKey) ?? []), position]);
            mostAtOnce = Math.max(mostAtOnce, asking.size);
            try {
              return await ctx.request(request);
            } finally {
              asking.delete(userKey);
            }
          },
        }),
    };
    const dispatcher = bench.dispatcher(suite.settings, undefined, watched);
    const outcomes = await new Promise<Outcome[]>((resolve) => {
      const ended: Outcome[] = [];
      dispatcher.attach({
        kind: 'live',
        replayId: null,
        next() {
          const entry = ready.shift();
          if (!entry) return undefined;
          return {
            event: entry.event as DeliverableEvent,
            ended(outcome) {
              const next = window.end(entry, 'delivered');
              if (next) ready.push(next);
              if (ended.push(outcome) === users * eventsEach) resolve(ended);
            },
          };
        },
      });
      dispatcher.pump();
    });
    assert.deepEqual(overtakes, []);
    assert.deepEqual(new Set(outcomes.map(meaningOf)), new Set(['delivered']));
    assert.equal(asked.size, users);
    for (const positions of asked.values())
      assert.deepEqual(
        positions,
        [...positions].sort((left, right) => left - right),
      );
    if (bench.type.definition.limits.concurrency > 1) assert.ok(mostAtOnce > 1, 'users go out side by side');
  });
}

function eventsOf(each: GoldenCase): DeliverableEvent[] {
  return each.events.map(({ payload, ...rest }) => deliverableEvent(payload, rest));
}

function meaningOf(outcome: Outcome): Meaning {
  return outcome.kind === 'rejected' ? (outcome.destination ?? 'rejected') : outcome.kind;
}

function goldenOf(vendor: Vendor, urls: readonly string[]): GoldenRequest[] {
  assert.equal(vendor.requests.length, urls.length);
  return vendor.requests.map(({ method, path, headers, body }, index) => {
    const url = urls[index] as string;
    const { pathname, search } = new URL(url);
    assert.equal(path, `${pathname}${search}`);
    const own = Object.entries(headers).filter(([name]) => !reservedHeaders.has(name));
    const isJson = /json/.test(headers['content-type'] ?? '');
    return { method, url, headers: Object.fromEntries(own), body: isJson ? JSON.parse(body) : body };
  });
}
