/** What did not arrive: events that were given up and users who wait for a retry, with the reasons. */
import type { Sql } from '../db/client.ts';
import { parsePublicId, publicId } from '../lib/ids.ts';
import { nextCursor, parseCursor } from './cursor.ts';
import type { DeliveryPage } from './input.ts';

/** What both kinds of row say of the event and where it was going. */
interface Failure {
  readonly destinationId: string;
  /** The replay it belongs to; null: live. */
  readonly replayId: string | null;
  readonly userKey: string;
  readonly userId: string | null;
  readonly anonymousId: string | null;
  readonly position: number;
  readonly attempts: number;
}

export interface DeadLetter extends Failure {
  /** Null when the event was erased since, as are type and event. */
  readonly messageId: string | null;
  readonly type: string | null;
  readonly event: string | null;
  readonly status: number | null;
  readonly error: string;
  /** The destination's answer, cut. */
  readonly response: string | null;
  readonly createdAt: string;
}

export interface ParkedUser extends Failure {
  readonly state: 'retry' | 'blocked';
  readonly parkedAt: string;
  readonly nextAttemptAt: string;
  readonly lastError: string | null;
  readonly lastStatus: number | null;
}

interface Place {
  readonly feedId: number;
  readonly destination: number;
  readonly kind: 'live' | 'replay';
}

/** Dead letters by position, the newest event first. */
export async function listDeadLetters(
  sql: Sql,
  page: DeliveryPage,
): Promise<{ data: DeadLetter[]; next: string | null }> {
  const [position = null, feed = null] = parseCursor(page.cursor, ['number', 'number']) ?? [];
  const { destinationId, feedId } = scopeOf(page);
  type Read = Omit<DeadLetter, 'destinationId' | 'replayId'> & Place;
  const rows = await sql<Read[]>`
    select d.feed_id as "feedId", d.destination_id as destination, f.kind, d.position, d.user_key as "userKey",
      e.user_id as "userId", e.anonymous_id as "anonymousId", e.message_id as "messageId", e.type, e.event,
      d.status, d.error, d.response, d.attempts, d.created_at as "createdAt"
    from (
      select * from repeater.dead_letters d
      where (${destinationId}::integer is null or d.destination_id = ${destinationId}::integer)
        and (${feedId}::integer is null or d.feed_id = ${feedId}::integer)
        and (${position}::bigint is null or (d.position, d.feed_id) < (${position}::bigint, ${feed}::integer))
      order by d.position desc, d.feed_id desc
      limit ${page.limit + 1}::integer
    ) d
    join repeater.feeds f on f.id = d.feed_id
    left join warehouse.events e on e.lane = d.lane and e.id = d.position
    order by d.position desc, d.feed_id desc`;
  const data = rows.slice(0, page.limit).map(named);
  return { data, next: nextCursor(rows, page.limit, (row) => [row.position, row.feedId]) };
}

/** Parked users, feed by feed. */
export async function listParkedUsers(
  sql: Sql,
  page: DeliveryPage,
): Promise<{ data: ParkedUser[]; next: string | null }> {
  const [feed = null, userKey = null] = parseCursor(page.cursor, ['number', 'string']) ?? [];
  const { destinationId, feedId } = scopeOf(page);
  type Read = Omit<ParkedUser, 'destinationId' | 'replayId'> & Place;
  const rows = await sql<Read[]>`
    select p."feedId", p.destination, p.kind, p."userKey", p.position, p.attempts, p.state, p."parkedAt",
      p."nextAttemptAt", p."lastError", p."lastStatus", e.user_id as "userId", e.anonymous_id as "anonymousId"
    from (
      select p.feed_id as "feedId", f.destination_id as destination, f.kind, p.user_key as "userKey",
        p.from_position as position, p.attempts, p.state, p.parked_at as "parkedAt",
        p.next_attempt_at as "nextAttemptAt", p.last_error as "lastError", p.last_status as "lastStatus", p.lane
      from repeater.parked_users p
      join repeater.feeds f on f.id = p.feed_id
      where (${destinationId}::integer is null or f.destination_id = ${destinationId}::integer)
        and (${feedId}::integer is null or p.feed_id = ${feedId}::integer)
        and (${feed}::integer is null or (p.feed_id, p.user_key) > (${feed}::integer, ${userKey}::text))
      order by p.feed_id, p.user_key
      limit ${page.limit + 1}::integer
    ) p
    left join warehouse.events e on e.lane = p.lane and e.id = p.position
    order by p."feedId", p."userKey"`;
  const data = rows.slice(0, page.limit).map(named);
  return { data, next: nextCursor(rows, page.limit, (row) => [row.feedId, row.userKey]) };
}

/** Ids as the tables have them; an id that cannot exist becomes 0, which nothing has. */
function scopeOf(page: DeliveryPage): { destinationId: number | null; feedId: number | null } {
  const { destinationId, replayId } = page;
  return {
    destinationId: destinationId === undefined ? null : (parsePublicId('dst', destinationId) ?? 0),
    feedId: replayId === undefined ? null : (parsePublicId('rpl', replayId) ?? 0),
  };
}

function named<Row extends Place>({ feedId, destination, kind, ...row }: Row) {
  return {
    ...row,
    destinationId: publicId('dst', destination),
    replayId: kind === 'replay' ? publicId('rpl', feedId) : null,
  };
}
