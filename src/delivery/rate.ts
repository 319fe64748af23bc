/** A feed's sends per second, from a bucket in the database that all workers share; asked for about ten times a second. */
import type { Sql } from '../db/client.ts';
import type { Log } from '../lib/log.ts';

interface RateOptions {
  readonly sql: Sql;
  readonly log: Log;
  readonly feedId: number;
  /** Null: no limit. */
  readonly ratePerSecond: number | null;
  /** Sends may have become possible. */
  readonly granted: () => void;
}

interface Waiting {
  readonly isStale: () => boolean;
  readonly resolve: (taken: boolean) => void;
}

export class Rate {
  ratePerSecond: number | null;
  readonly #options: RateOptions;
  #tokens = 0;
  #asking = false;
  /** Attempts for parked users, which do not stand in the feed's line. */
  #waiting: Waiting[] = [];
  /** Who is served first takes turns, so that neither the line nor the parked users go without. */
  #lineFirst = false;

  constructor(options: RateOptions) {
    this.#options = options;
    this.ratePerSecond = options.ratePerSecond;
  }

  /** Takes one send; false when none is left now, and `granted` is called when there may be again. */
  take(): boolean {
    if (this.ratePerSecond === null) return true;
    if (this.#tokens >= 1) {
      this.#tokens--;
      return true;
    }
    this.#ask(this.ratePerSecond);
    return false;
  }

  /** Takes one send when there is one; false when it went stale while it waited. */
  async takeWhenGranted(isStale: () => boolean): Promise<boolean> {
    if (this.#waiting.length === 0 && this.take()) return true;
    return new Promise((resolve) => {
      this.#waiting.push({ isStale, resolve });
      this.#ask(this.ratePerSecond ?? 1);
    });
  }

  /** A send that was taken was not needed. */
  giveBack(): void {
    if (this.ratePerSecond !== null) this.#tokens++;
  }

  #ask(ratePerSecond: number): void {
    if (this.#asking) return;
    this.#asking = true;
    void this.#fetch(ratePerSecond).then((tokens) => {
      this.#tokens += tokens;
      const pauseMs = tokens > 0 ? 0 : Math.min(1_000, Math.max(20, 1_000 / ratePerSecond));
      setTimeout(() => {
        this.#asking = false;
        this.#lineFirst = !this.#lineFirst;
        if (this.#lineFirst) this.#options.granted();
        this.#serveWaiting();
        if (!this.#lineFirst) this.#options.granted();
      }, pauseMs).unref();
    });
  }

  /** Lets go, without a send, those that wait and have become stale. */
  dropStale(): void {
    const stale = this.#waiting.filter(({ isStale }) => isStale());
    this.#waiting = this.#waiting.filter((each) => !stale.includes(each));
    for (const { resolve } of stale) resolve(false);
  }

  #serveWaiting(): void {
    this.dropStale();
    while (this.#waiting.length > 0 && this.take()) this.#waiting.shift()?.resolve(true);
  }

  async #fetch(ratePerSecond: number): Promise<number> {
    const { sql, feedId, log } = this.#options;
    const want = Math.max(1, Math.ceil(ratePerSecond / 10));
    try {
      const [row] = await sql<{ tokens: number | null }[]>`
        select repeater.take_rate(${feedId}::integer, ${want}::integer) as tokens`;
      return row?.tokens ?? 0;
    } catch (error) {
      log.debug({ feedId, err: error }, 'asking for the rate failed; nothing is sent until it works');
      return 0;
    }
  }
}
