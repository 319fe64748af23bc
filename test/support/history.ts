/**
 * The judge of the fault tests, which knows nothing of how Repeater works: what clients were promised, what is
 * stored and what receivers saw, held against the ordering contract. Everything it looks for has a test in
 * history.test.ts in which it finds it.
 *
 * Two events are ordered when they share a userId or an anonymousId. An event has ended at a receiver with its
 * first 2xx or refusal (a 4xx that no retry can change). Excused is only a Retry-After that nobody can know of:
 * the client was gone before it was answered, or was killed before it had time to record it.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Sql } from '../../src/db/client.ts';
import type { Attempt } from './receiver.ts';

/** An event as a client sent it. */
export interface SentEvent {
  readonly messageId: string;
  readonly userId: string | null;
  readonly anonymousId: string | null;
  /** Place among the events of the same user, in the order they were sent one after the other. */
  readonly seq: number;
  /** `properties`, which no step may change. */
  readonly properties: Readonly<Record<string, unknown>>;
}

export interface StoredRow {
  readonly position: number;
  readonly messageId: string;
  readonly userId: string | null;
  readonly anonymousId: string | null;
  readonly properties: unknown;
}

/** What one receiver saw of one feed, and what it should have. */
export interface FeedHistory {
  readonly name: string;
  readonly attempts: readonly Attempt[];
  /** Positions of the feed; absent: everything stored. */
  readonly expected?: ReadonlySet<number>;
  /** Positions that ended as dead letters: they need not have been delivered. */
  readonly deadLetters?: ReadonlySet<number>;
}

export interface History {
  /** Every event that a 200 was received for, whatever came before it. */
  readonly acknowledged: readonly SentEvent[];
  readonly stored: readonly StoredRow[];
  readonly feeds: readonly FeedHistory[];
  /** When workers were killed, by performance.now(). */
  readonly kills?: readonly number[];
}

/** Each violation is a sentence; all lists empty: the history is clean. */
export interface Verdict {
  /** Acknowledged and not stored. */
  readonly lost: string[];
  readonly storedTwice: string[];
  /** A later event of a user stored at a lower position. */
  readonly storedOutOfOrder: string[];
  /** Never ended at a receiver. */
  readonly missing: string[];
  /** Sent to a receiver that should not get it. */
  readonly unexpected: string[];
  /** First ends of a user's events out of the order of acceptance. */
  readonly outOfOrder: string[];
  /** An attempt that started while an earlier event of the same user had not ended or was being sent again. */
  readonly overtakes: string[];
  /** An attempt for a user before a Retry-After of that user had run out. */
  readonly tooEarly: string[];
  /** Stored or delivered with other properties than were sent. */
  readonly changed: string[];
  /** Deliveries beyond each event's first, over all feeds. */
  readonly duplicates: number;
}

/** For this long a killed worker may have known of a Retry-After without having recorded it; 50 ms when nothing is busy. */
const unrecordedMs = 1_000;
/** 4xx answers that say "later": tried again, unlike the others. 401 and 403 are about the destination. */
const notFinal = new Set([401, 403, 408, 410, 423, 425, 429]);

/** Judges a history. */
export function judge(history: History): Verdict {
  const verdict = {
    ...judgeStorage(history),
    missing: [] as string[],
    unexpected: [] as string[],
    outOfOrder: [] as string[],
    overtakes: [] as string[],
    tooEarly: [] as string[],
    duplicates: 0,
  };
  const sent = new Map(history.acknowledged.map((event) => [event.messageId, event]));
  const rows = history.stored.toSorted((left, right) => left.position - right.position);
  for (const feed of history.feeds) {
    const own = feed.expected === undefined ? rows : rows.filter((row) => feed.expected?.has(row.position));
    const log = new FeedLog(feed, own);
    log.replayTime(history.kills ?? []);
    verdict.missing.push(...log.missing());
    verdict.unexpected.push(...log.unexpected);
    verdict.outOfOrder.push(...log.outOfOrder);
    verdict.overtakes.push(...log.overtakes);
    verdict.tooEarly.push(...log.tooEarly);
    verdict.duplicates += log.duplicates;
    for (const attempt of feed.attempts) {
      const original = sent.get(attempt.messageId);
      if (original && !isDeepStrictEqual(attempt.event['properties'], original.properties))
        verdict.changed.push(`${feed.name}: ${describe(attempt)}`);
    }
  }
  return verdict;
}

/** The violations of a verdict by name, the first five of each; empty when it is clean. Duplicates are none. */
export function violationsOf(verdict: Verdict): Record<string, string[]> {
  const found: Record<string, string[]> = {};
  for (const [name, list] of Object.entries(verdict) as [string, string[] | number][]) {
    if (typeof list === 'number' || list.length === 0) continue;
    found[name] = list.length > 5 ? [...list.slice(0, 5), `and ${list.length - 5} more`] : list;
  }
  return found;
}

/** Everything stored, by plain SQL. */
export async function readStored(sql: Sql): Promise<StoredRow[]> {
  return sql<StoredRow[]>`
    select id as position, message_id as "messageId", user_id as "userId", anonymous_id as "anonymousId",
      payload->'properties' as properties
    from warehouse.events order by id`;
}

function judgeStorage(
  history: History,
): Pick<Verdict, 'lost' | 'storedTwice' | 'storedOutOfOrder' | 'changed'> {
  const rows = new Map<string, StoredRow[]>();
  for (const row of history.stored) {
    const same = rows.get(row.messageId);
    if (same) same.push(row);
    else rows.set(row.messageId, [row]);
  }
  const lost: string[] = [];
  const changed: string[] = [];
  const storedOutOfOrder: string[] = [];
  const highest = new Map<string, number>();
  for (const event of history.acknowledged.toSorted((left, right) => left.seq - right.seq)) {
    const row = rows.get(event.messageId)?.[0];
    if (!row) {
      lost.push(describe(event));
      continue;
    }
    if (!isDeepStrictEqual(row.properties, event.properties)) changed.push(`stored: ${describe(event)}`);
    // The order in which a client numbered its own events: one numbering for each user, or each visitor.
    const [key] = keysOf(event);
    if (key === undefined) continue;
    if (row.position < (highest.get(key) ?? 0)) storedOutOfOrder.push(describe(event));
    highest.set(key, Math.max(row.position, highest.get(key) ?? 0));
  }
  const storedTwice = [...rows.values()]
    .filter((same) => same.length > 1)
    .map(
      ([row, ...more]) => `${row?.messageId} at ${[row, ...more].map((each) => each?.position).join(', ')}`,
    );
  return { lost, storedTwice, storedOutOfOrder, changed };
}

/** A user or visitor whose events are in one order, while time runs through the attempts. */
interface Line {
  /** Of the feed, ascending. */
  readonly positions: number[];
  /** Everything before this index has ended. */
  endedTo: number;
  readonly inFlight: Set<Attempt>;
  notBefore: number;
}

class FeedLog {
  readonly unexpected: string[] = [];
  readonly outOfOrder: string[] = [];
  readonly overtakes: string[] = [];
  readonly tooEarly: string[] = [];
  duplicates = 0;
  readonly #feed: FeedHistory;
  readonly #rows: readonly StoredRow[];
  readonly #expected = new Map<number, StoredRow>();
  readonly #lines = new Map<string, Line>();
  readonly #ended = new Set<number>();

  constructor(feed: FeedHistory, rows: readonly StoredRow[]) {
    this.#feed = feed;
    this.#rows = rows;
    for (const row of rows) {
      this.#expected.set(row.position, row);
      if (feed.deadLetters?.has(row.position)) continue;
      for (const key of keysOf(row)) this.#lineOf(key).positions.push(row.position);
    }
  }

  /** Lets arrivals and ends happen again in the order of their times. */
  replayTime(kills: readonly number[]): void {
    const moments = this.#feed.attempts.flatMap((attempt) => [
      { at: attempt.arrivedAt, attempt, isEnd: false },
      ...(attempt.endedAt === null ? [] : [{ at: attempt.endedAt, attempt, isEnd: true }]),
    ]);
    // At the same instant an end comes before a start, save an attempt's own.
    moments.sort((left, right) => left.at - right.at || Number(right.isEnd) - Number(left.isEnd));
    const started = new Set<Attempt>();
    for (const { attempt, isEnd } of moments) {
      if (!started.has(attempt)) this.#start(attempt);
      started.add(attempt);
      if (isEnd) this.#end(attempt, kills);
    }
  }

  missing(): string[] {
    return this.#rows
      .filter((row) => !this.#ended.has(row.position) && !this.#feed.deadLetters?.has(row.position))
      .map((row) => `${this.#feed.name}: ${describe(row)}`);
  }

  #start(attempt: Attempt): void {
    if (!this.#expected.has(attempt.position)) {
      this.unexpected.push(this.#describe(attempt));
      return;
    }
    for (const line of this.#linesOf(attempt)) {
      const next = line.positions[line.endedTo];
      const resent = [...line.inFlight].some((other) => other.position < attempt.position);
      if ((next !== undefined && next < attempt.position) || resent)
        this.overtakes.push(this.#describe(attempt));
      if (attempt.arrivedAt < line.notBefore) this.tooEarly.push(this.#describe(attempt));
      line.inFlight.add(attempt);
    }
  }

  #end(attempt: Attempt, kills: readonly number[]): void {
    const endedAt = attempt.endedAt as number;
    const isFirst = isEnd(attempt) && !this.#ended.has(attempt.position);
    if (isDelivery(attempt) && !isFirst) this.duplicates++;
    for (const line of this.#linesOf(attempt)) {
      line.inFlight.delete(attempt);
      const retryAfterMs = retryAfterMsOf(attempt);
      const isUnknown =
        attempt.unheard || kills.some((at) => at > attempt.arrivedAt && at < endedAt + unrecordedMs);
      if (retryAfterMs > 0 && !isUnknown) line.notBefore = Math.max(line.notBefore, endedAt + retryAfterMs);
      if (!isFirst) continue;
      if (line.positions[line.endedTo] !== attempt.position) this.outOfOrder.push(this.#describe(attempt));
    }
    if (!isFirst) return;
    this.#ended.add(attempt.position);
    for (const line of this.#linesOf(attempt)) {
      while (this.#ended.has(line.positions[line.endedTo] ?? -1)) line.endedTo++;
    }
  }

  #linesOf(attempt: Attempt): Line[] {
    const row = this.#expected.get(attempt.position);
    return row === undefined ? [] : keysOf(row).map((key) => this.#lineOf(key));
  }

  #lineOf(key: string): Line {
    let line = this.#lines.get(key);
    if (line === undefined) {
      line = { positions: [], endedTo: 0, inFlight: new Set(), notBefore: 0 };
      this.#lines.set(key, line);
    }
    return line;
  }

  #describe(attempt: Attempt): string {
    return `${this.#feed.name}: ${describe(attempt)}`;
  }
}

/** What an event is ordered by; the first is what its client numbers it by. */
function keysOf(event: { readonly userId: string | null; readonly anonymousId: string | null }): string[] {
  return [
    ...(event.userId === null ? [] : [`u:${event.userId}`]),
    ...(event.anonymousId === null ? [] : [`a:${event.anonymousId}`]),
  ];
}

function statusOf(attempt: Attempt): number | null {
  return typeof attempt.answer === 'object' && attempt.answer !== null ? attempt.answer.status : null;
}

function isDelivery(attempt: Attempt): boolean {
  const status = statusOf(attempt);
  return status !== null && status >= 200 && status < 300;
}

function isEnd(attempt: Attempt): boolean {
  const status = statusOf(attempt);
  return isDelivery(attempt) || (status !== null && status >= 400 && status < 500 && !notFinal.has(status));
}

function retryAfterMsOf(attempt: Attempt): number {
  const { answer } = attempt;
  if (typeof answer !== 'object' || (answer?.status !== 429 && answer?.status !== 503)) return 0;
  return (answer.retryAfterSeconds ?? 0) * 1_000;
}

interface Describable {
  readonly messageId: string;
  readonly userId: string | null;
  readonly anonymousId: string | null;
  readonly seq?: number | null;
  readonly position?: number;
  readonly arrivedAt?: number;
}

function describe({ messageId, userId, anonymousId, seq, position, arrivedAt }: Describable): string {
  const at = position === undefined ? '' : ` at position ${position}`;
  const when = arrivedAt === undefined ? '' : `, arrived ${arrivedAt.toFixed(1)} ms`;
  return `${userId ?? anonymousId}${typeof seq === 'number' ? ` seq ${seq}` : ''}${at} (${messageId})${when}`;
}
