/**
 * Whether a destination as a whole can be sent to; a pure state machine, time comes as an argument.
 *
 *   closed ── half of the last 50 calls failed, of 10 users or more ──> open ── after 1, 2, 4, 5, 5 … s ──> probing
 *     ▲                                                                 ▲ ▲                               │ │
 *     │                                                                 │ └── failure, or "come later" ───┘ │
 *     └── as many as the limit ── ramping: 2, 4, 8 … at once ───────────┘                                   │
 *                                    ▲     (most of a step failed)                                          │
 *                                    └── success ───────────────────────────────────────────────────────────┘
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
  /** The last calls, as a ring; written in place, because this runs for every event (3 to 6 ns). */
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
  /** Times it opened since it was last closed; decides the pause. */
  #openings = 0;
  /** Calls allowed at once while ramping; a step ends when as many have ended. */
  #step = 0;
  #stepEnded = 0;
  #stepFailed = 0;

  /** Takes note of an ended call. */
  record(result: CallResult, now: number): void {
    const call = this.#calls[this.#index] as Recorded;
    this.#index = (this.#index + 1) % windowCalls;
    call.failed = result.kind === 'failed';
    call.throttled = result.kind === 'throttled';
    call.userKey = result.userKey;
    call.at = now;
    if (call.throttled) this.#throttled(result.retryAfterMs ?? 0, now);
    if (this.#state === 'closed') {
      if (call.failed && this.#isFailing(now)) this.#open(now);
    } else if (this.#state === 'probing') {
      if (call.failed || call.throttled) this.#open(now);
      else this.#ramp(2);
    } else if (this.#state === 'ramping' && !call.throttled) this.#ramped(call.failed, now);
    // While open, a result is of a call that was in flight when it opened, and says nothing new.
  }

  /** How many calls may be in flight now, up to the destination's own limit. */
  capacity(now: number, limit: number): number {
    if (now < this.#heldUntil) return 0;
    if (this.#state === 'ramping' && this.#step >= limit) this.#close();
    if (this.#state === 'open' && now >= this.#nextProbeAt) this.#state = 'probing';
    if (this.#state === 'closed') return limit;
    if (this.#state === 'ramping') return this.#step;
    return this.#state === 'probing' ? 1 : 0;
  }

  /** `ramping`: the destination works again, so a failed call is its user's again. */
  state(now: number): 'closed' | 'open' | 'probing' | 'ramping' | 'held' {
    return now < this.#heldUntil ? 'held' : this.#state;
  }

  /** Whether nothing goes to anybody for so long, so that who was told to come back then can wait in the line. */
  isHeldFor(durationMs: number, now: number): boolean {
    return this.#heldUntil - now >= durationMs;
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
    const pause = probePausesMs[Math.min(this.#openings, probePausesMs.length - 1)] as number;
    this.#state = 'open';
    this.#openings++;
    this.#nextProbeAt = now + pause;
  }

  #ramp(step: number): void {
    this.#state = 'ramping';
    this.#step = step;
    this.#stepEnded = 0;
    this.#stepFailed = 0;
  }

  /** More than half, not any: one user whose events always fail must not keep the others waiting. */
  #ramped(failed: boolean, now: number): void {
    this.#stepEnded++;
    if (failed) this.#stepFailed++;
    if (this.#stepFailed * 2 > this.#step) this.#open(now);
    else if (this.#stepEnded >= this.#step) this.#ramp(this.#step * 2);
  }

  #close(): void {
    this.#state = 'closed';
    this.#openings = 0;
    for (const call of this.#calls) call.at = -Infinity;
  }
}
