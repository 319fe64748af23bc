/**
 * Clients as SDKs are: each sends its events one request after the other, and the same request again until it is
 * answered with 200, then with the next one. A user belongs to one client, so the order in which a user's events
 * were accepted is the order of their `seq`.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SentEvent } from './history.ts';
import { writeKey } from './process.ts';

/** A deterministic source of numbers from 0 up to 1, so that a failed run can be had again. */
export type Random = () => number;

/** Mulberry32. */
export function createRandom(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The seed in REPEATER_TEST_SEED, else a new one; printed, so that the run can be had again. */
export function chooseSeed(): number {
  const seed = Number(process.env['REPEATER_TEST_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
  console.log(`seed ${seed}: REPEATER_TEST_SEED=${seed} draws the same numbers again`);
  return seed;
}

export interface Acknowledged extends SentEvent {
  /** When the 200 was read, by performance.now(). */
  readonly acknowledgedAt: number;
}

/** What a client sends next; a track of one of its users unless `calls` says otherwise. */
export interface Call {
  readonly type: 'track' | 'identify' | 'page' | 'alias';
  readonly userId: string | null;
  readonly anonymousId: string | null;
  readonly previousId?: string;
}

interface SendersOptions {
  /** Draws what a client sends next. Ids must not be shared between clients: only then their order is known. */
  readonly calls?: (client: number) => Call;
  /** Of the API processes that run now; a request goes to one of them, its repeat to another. */
  readonly addresses: () => readonly string[];
  readonly users: readonly string[];
  readonly clients: number;
  readonly random: Random;
}

interface Load {
  readonly events: number;
  readonly perRequest: number;
  /** Over all clients; as fast as answers come if absent. */
  readonly eventsPerSecond?: number;
  readonly eventName?: string;
}

interface Sent extends SentEvent {
  readonly call: Call;
}

const answerMs = 5_000;
const pauseMs = 50;

export class Senders {
  readonly acknowledged: Acknowledged[] = [];
  /** Requests that were sent again. */
  repeats = 0;
  readonly #options: SendersOptions;
  readonly #seqs = new Map<string, number>();
  #requests = 0;

  constructor(options: SendersOptions) {
    this.#options = options;
  }

  /** Resolves when every event is acknowledged. */
  async send(load: Load): Promise<void> {
    const { clients, users } = this.#options;
    const own = (client: number) => users.filter((_, index) => index % clients === client);
    await Promise.all(
      Array.from({ length: clients }, (_, client) =>
        this.#run(client, own(client), { ...load, events: Math.ceil(load.events / clients) }),
      ),
    );
  }

  async #run(client: number, users: readonly string[], load: Load): Promise<void> {
    const { random, clients, calls } = this.#options;
    const next = () =>
      calls === undefined
        ? this.#next(users[Math.floor(random() * users.length)] as string)
        : this.#numbered(calls(client), `client-${client}`);
    const startedAt = performance.now();
    const msPerEvent = load.eventsPerSecond === undefined ? 0 : (1_000 * clients) / load.eventsPerSecond;
    for (let sent = 0; sent < load.events; sent += load.perRequest) {
      const batch = Array.from({ length: Math.min(load.perRequest, load.events - sent) }, next);
      await this.#deliver(batch, load.eventName ?? 'Tested');
      const aheadMs = startedAt + (sent + batch.length) * msPerEvent - performance.now();
      if (aheadMs > 0) await sleep(aheadMs);
    }
  }

  #next(userId: string): Sent {
    return this.#numbered({ type: 'track', userId, anonymousId: null }, userId);
  }

  #numbered(call: Call, series: string): Sent {
    const seq = (this.#seqs.get(series) ?? 0) + 1;
    this.#seqs.set(series, seq);
    const { userId, anonymousId } = call;
    const properties = { seq, noise: this.#options.random() };
    return { messageId: `${series}-${seq}`, userId, anonymousId, seq, properties, call };
  }

  async #deliver(batch: readonly Sent[], event: string): Promise<void> {
    const body = JSON.stringify({
      writeKey,
      batch: batch.map(({ messageId, properties, call }) => ({ ...call, event, messageId, properties })),
    });
    for (;;) {
      if (await this.#post(body)) break;
      this.repeats++;
      await sleep(pauseMs);
    }
    const acknowledgedAt = performance.now();
    for (const each of batch) this.acknowledged.push({ ...each, acknowledgedAt });
  }

  /** False: no 200 came, for whatever reason; nothing is known about what was stored. */
  async #post(body: string): Promise<boolean> {
    const addresses = this.#options.addresses();
    const address = addresses[this.#requests++ % addresses.length];
    if (address === undefined) return false;
    const response = await fetch(`${address}/v1/batch`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
      signal: AbortSignal.timeout(answerMs),
    }).catch(() => null);
    const answer = await response?.json().catch(() => null);
    if (response?.status !== 200 || answer === null) return false;
    assert.deepEqual(answer, { success: true });
    return true;
  }
}
