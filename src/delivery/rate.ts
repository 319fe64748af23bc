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

export class Rate {
  ratePerSecond: number | null;
  readonly #options: RateOptions;
  #tokens = 0;
  #asking = false;

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
        this.#options.granted();
      }, pauseMs).unref();
    });
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
