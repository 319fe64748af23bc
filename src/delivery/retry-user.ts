/**
 * A parked user's retry and catch-up. While a user is parked its lane skips it, and all its events from
 * `from_position` on belong to the worker that holds the user's lease, however far the lane has come. When
 * every event up to the lane's cursor has ended, the user is handed back in a transaction that locks the
 * lane's row, so nothing falls between the two.
 */
import type { Sql } from '../db/client.ts';
import { readUser } from '../events/read-slice.ts';
import type { Barrier, StoredEvent } from '../events/stored-event.ts';
import type { Outcome } from '../destinations/definition.ts';
import { isGivenUp, retryDelayMs } from './backoff.ts';
import { readBarriers, waitsForOthers } from './barriers.ts';
import { stopped } from './dispatcher.ts';
import type { FeedRun } from './feed-run.ts';
import { deadLetterOf, type DeadLetter } from './lane-run.ts';

const page = 100;
/** Write the progress of a long catch-up after so many events: no more are repeated after a crash. */
const eventsPerWrite = 50;
/** The lane is held up by somebody else's slow call; look again soon whether it has passed us. */
const laneBehindMs = 200;
/** So are those that this user waits for; or they wait for a retry of their own. */
const barrierOpenMs = 200;
const barrierParkedMs = 1_000;

export interface TakenUser {
  readonly userKey: string;
  readonly owner: string;
  readonly lane: number;
  readonly fromPosition: number;
  readonly attempts: number;
  /** For how long the event at fromPosition has been failing, by the database's clock. */
  readonly failingMs: number;
}

interface Failure {
  readonly attempts: number;
  readonly delayMs: number;
  readonly error: string | null;
  readonly status: number | null;
  readonly blocked: boolean;
}

export class UserRun {
  readonly run: FeedRun;
  readonly user: TakenUser;
  /** The lease has another owner: outcomes are dropped. */
  lost = false;
  readonly #sql: Sql;
  readonly #refused: (reason: string) => void;
  #next: number;
  #attempts: number;
  #delivered = 0;
  #dead = 0;
  #filtered = 0;
  #deads: DeadLetter[] = [];

  constructor(sql: Sql, run: FeedRun, user: TakenUser, refused: (reason: string) => void) {
    this.#sql = sql;
    this.run = run;
    this.user = user;
    this.#refused = refused;
    this.#next = user.fromPosition;
    this.#attempts = user.attempts;
  }

  /** Runs until the user is back in its lane, has failed again, or the feed stops. */
  async work(): Promise<void> {
    for (;;) {
      const events = await this.#read();
      for (const event of events) {
        if (this.lost) return;
        if (this.run.stopping) return void (await this.#write({ ...this.#asBefore(), delayMs: 0 }));
        const failure = await this.#handle(event);
        if (failure) return void (await this.#write(failure));
        if (this.#delivered + this.#dead + this.#filtered >= eventsPerWrite && !(await this.#write(null)))
          return;
      }
      if (events.length === page) continue;
      if (!(await this.#write(null)) || (await this.#handBack())) return;
    }
  }

  #read(): Promise<StoredEvent[]> {
    return readUser(this.#sql, this.run.slice, { userKey: this.user.userKey, from: this.#next, limit: page });
  }

  /** Sends one event; null when it has ended. */
  async #handle(event: StoredEvent): Promise<Failure | null> {
    if (!this.run.accepts(event)) {
      this.#filtered++;
      this.#passed(event);
      return null;
    }
    const barred = event.barriers && (await this.#barredBy(event.barriers));
    if (barred) return barred;
    const outcome = await this.#attempt(event);
    if (outcome === stopped) return { ...this.#asBefore(), delayMs: 0 };
    if (outcome.kind === 'delivered') {
      this.#delivered++;
      this.#passed(event);
      return null;
    }
    if (outcome.kind === 'rejected') {
      if (outcome.destination) {
        this.#refused(outcome.reason);
        return { ...this.#asBefore(), delayMs: 1_000 };
      }
      if (this.run.feed.blocksOnRejection)
        return this.#failed(outcome, { attempts: this.#attempts + 1, delayMs: 0, blocked: true });
      this.#giveUp(event, outcome);
      return null;
    }
    if (outcome.retryAfterMs !== undefined) {
      return this.#failed(outcome, {
        attempts: this.#attempts,
        delayMs: outcome.retryAfterMs,
        blocked: false,
      });
    }
    const policy = this.run.feed.retryPolicy;
    if (this.run.dispatcher.isFailing) {
      return this.#failed(outcome, { attempts: this.#attempts, delayMs: policy.initialMs, blocked: false });
    }
    const attempts = this.#attempts + 1;
    const failingMs = event.position === this.user.fromPosition ? this.user.failingMs : 0;
    if (isGivenUp({ failingMs, attempts }, policy)) {
      if (this.run.feed.blocksOnRejection)
        return this.#failed(outcome, { attempts, delayMs: 0, blocked: true });
      this.#giveUp(event, outcome);
      return null;
    }
    return this.#failed(outcome, {
      attempts,
      delayMs: retryDelayMs(attempts, policy, Math.random),
      blocked: false,
    });
  }

  /** Null when those it waits for have ended. */
  async #barredBy(barriers: readonly Barrier[]): Promise<Failure | null> {
    const state = await readBarriers(this.#sql, this.run.feed.id, barriers);
    if (state === 'passed') return null;
    const delayMs = state === 'open' ? barrierOpenMs : barrierParkedMs;
    return { ...this.#asBefore(), delayMs, error: waitsForOthers };
  }

  /** One call, within the feed's rate and the destination's limits; `stopped` when there was none. */
  async #attempt(event: StoredEvent): Promise<Outcome> {
    const isStale = () => this.lost || this.run.stopping;
    if (!(await this.run.rate.takeWhenGranted(isStale))) return stopped;
    return new Promise((resolve) => {
      this.run.dispatcher.retry({ event, replayId: this.run.replayId, ended: resolve, isStale });
    });
  }

  #passed(event: StoredEvent): void {
    this.#next = event.position + 1;
    this.#attempts = 0;
  }

  #giveUp(event: StoredEvent, outcome: Exclude<Outcome, { kind: 'delivered' }>): void {
    this.#deads.push(deadLetterOf(event, outcome, this.#attempts + 1));
    this.#dead++;
    this.#passed(event);
  }

  #failed(
    outcome: Exclude<Outcome, { kind: 'delivered' }>,
    rest: Pick<Failure, 'attempts' | 'delayMs' | 'blocked'>,
  ): Failure {
    return { ...rest, error: outcome.reason, status: outcome.status ?? null };
  }

  #asBefore(): Omit<Failure, 'delayMs'> {
    return { attempts: this.#attempts, error: null, status: null, blocked: false };
  }

  /** Writes what has ended; with a failure, also lets the user go until its next attempt. False: no longer ours. */
  async #write(failure: Failure | null): Promise<boolean> {
    if (this.lost) return false;
    const [row] = await this.#sql<{ ok: boolean }[]>`
      select repeater.advance_user(${this.run.feed.id}::integer, ${this.user.userKey}::text, ${this.user.owner}::text,
        ${this.#next}::bigint, ${this.#delivered}::integer, ${this.#dead}::integer, ${this.#filtered}::integer,
        ${this.#deads.length === 0 ? null : JSON.stringify(this.#deads)}::text::json,
        ${failure === null ? null : JSON.stringify(failure)}::text::json) as ok`;
    this.#delivered = this.#dead = this.#filtered = 0;
    this.#deads = [];
    return row?.ok === true;
  }

  /** Back into the lane if it has passed all that was done here and nothing of the user is left below it. */
  async #handBack(): Promise<boolean> {
    const feedId = this.run.feed.id;
    const [lane] = await this.#sql<{ cursor: number }[]>`
      select cursor from repeater.feed_lanes where feed_id = ${feedId}::integer and lane = ${this.user.lane}::smallint`;
    let cursor = lane?.cursor ?? 0;
    for (;;) {
      if (cursor < this.#next - 1) {
        await this.#write({ ...this.#asBefore(), delayMs: laneBehindMs });
        return true;
      }
      const [left] = await readUser(this.#sql, this.run.slice, {
        userKey: this.user.userKey,
        from: this.#next,
        limit: 1,
      });
      if (left && left.position <= cursor) return false;
      const [row] = await this.#sql<{ moved: number | null }[]>`
        select repeater.unpark_user(${feedId}::integer, ${this.user.userKey}::text, ${this.user.owner}::text,
          ${this.user.lane}::smallint, ${cursor}::bigint) as moved`;
      if (row?.moved === null || row === undefined) return true;
      cursor = row.moved;
    }
  }
}
