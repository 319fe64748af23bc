/**
 * Whether a destination as a whole can be sent to; a pure state machine, time comes as an argument.
 *
 *   closed ── half of the last 50 calls failed, of 10 users or more ──> open ── one probe a second (1, 2, 4, 5 s)
 *     ▲                                                                  ▲ │
 *     └── capacity back at the limit ── ramp: 1, 2, 4, 8 … <── success ──┼─┘
 *                                          └──────── failure ────────────┘
 *
 * Held is another thing: the destination named a time (Retry-After) before which it wants nothing. One user's
 * 429 holds that user only; once three users are told so within the last 32 calls, and it was a quarter of them,
 * it is meant for all.
 */

interface CallResult {
  readonly userKey: string;
  /** `refused` is an answer about the event: the destination works. */
  readonly kind: 'ok' | 'failed' | 'throttled' | 'refused';
  readonly retryAfterMs?: number;
}

const windowCalls = 50;
const windowMs = 30_000;
const failingUsers = 10;
const throttleCalls = 32;
const throttledUsers = 3;
const probePausesMs = [1_000, 2_000, 4_000, 5_000] as const;

interface Recorded {
  failed: boolean;
  throttled: boolean;
  userKey: string;
  at: number;
}

export class Circuit {
  /** The last calls, as a ring; written in place, because this runs for every event. */
  readonly #calls: Recorded[] = Array.from({ length: windowCalls }, () => ({
    failed: false,
    throttled: false,
    userKey: '',
    at: -Infinity,
  }));
  #index = 0;
  #state: 'closed' | 'open' | 'probing' | 'ramping' = 'closed';
  #heldUntil = 0;
  #nextProbeAt = 0;
  #probes = 0;
  #ramp = 1;
  #rampSuccesses = 0;
  #rampTotal = 0;
  #rampFailures = 0;

  /** Takes note of an ended call. */
  record(result: CallResult, now: number): void {
    const call = this.#calls[this.#index] as Recorded;
    this.#index = (this.#index + 1) % windowCalls;
    call.failed = result.kind === 'failed';
    call.throttled = result.kind === 'throttled';
    call.userKey = result.userKey;
    call.at = now;
    if (result.kind === 'throttled') this.#throttled(result.retryAfterMs ?? 0, now);
    if (this.#state === 'closed') {
      if (call.failed && this.#isFailing(now)) this.#open(now);
    } else if (call.failed) this.#failedAgain(now);
    else if (result.kind !== 'throttled') this.#succeeded();
  }

  /** How many calls may be in flight now, up to the destination's own limit. */
  capacity(now: number, limit: number): number {
    if (now < this.#heldUntil) return 0;
    if (this.#state === 'closed') return limit;
    if (this.#state === 'ramping') {
      if (this.#ramp >= limit) this.#close();
      return Math.min(this.#ramp, limit);
    }
    if (this.#state === 'open' && now >= this.#nextProbeAt) this.#state = 'probing';
    return this.#state === 'probing' ? 1 : 0;
  }

  state(now: number): 'closed' | 'open' | 'probing' | 'held' {
    if (now < this.#heldUntil) return 'held';
    return this.#state === 'ramping' ? 'probing' : this.#state;
  }

  /** When capacity may change by itself; null when only a result changes it. */
  nextChangeAt(now: number): number | null {
    if (now < this.#heldUntil) return this.#heldUntil;
    return this.#state === 'open' ? this.#nextProbeAt : null;
  }

  #isFailing(now: number): boolean {
    let failed = 0;
    let counted = 0;
    const users = new Set<string>();
    for (const call of this.#calls) {
      if (now - call.at > windowMs) continue;
      counted++;
      if (!call.failed) continue;
      failed++;
      users.add(call.userKey);
    }
    return users.size >= failingUsers && failed * 2 >= counted;
  }

  #throttled(retryAfterMs: number, now: number): void {
    let throttled = 0;
    let counted = 0;
    const users = new Set<string>();
    for (let back = 1; back <= throttleCalls; back++) {
      const call = this.#calls[(this.#index - back + windowCalls) % windowCalls] as Recorded;
      if (now - call.at > windowMs) break;
      counted++;
      if (!call.throttled) continue;
      throttled++;
      users.add(call.userKey);
    }
    if (users.size >= throttledUsers && throttled * 4 >= counted)
      this.#heldUntil = Math.max(this.#heldUntil, now + retryAfterMs);
  }

  #open(now: number): void {
    // A failure that was in flight when the circuit opened says nothing new.
    if (this.#state === 'open') return;
    this.#state = 'open';
    const pause = probePausesMs[Math.min(this.#probes, probePausesMs.length - 1)] as number;
    this.#probes++;
    this.#nextProbeAt = now + pause;
  }

  /** A probe that fails opens again; while ramping up a few failures are ordinary. */
  #failedAgain(now: number): void {
    if (this.#state === 'ramping' && ++this.#rampFailures * 2 <= this.#rampTotal) return;
    this.#open(now);
  }

  #succeeded(): void {
    if (this.#state !== 'ramping') {
      this.#state = 'ramping';
      this.#ramp = 2;
      this.#rampSuccesses = 0;
      this.#rampTotal = 1;
      this.#rampFailures = 0;
      return;
    }
    this.#rampTotal++;
    if (++this.#rampSuccesses < this.#ramp) return;
    this.#ramp *= 2;
    this.#rampSuccesses = 0;
  }

  #close(): void {
    this.#state = 'closed';
    this.#probes = 0;
    for (const call of this.#calls) call.at = -Infinity;
  }
}
