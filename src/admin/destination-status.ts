/**
 * How far a destination is, feed by feed. Cheap on any log: of a live feed each lane is looked at by one
 * index scan that ends after `mostCounted` events; of a replay only the lanes' counters.
 */
import type { Sql, Transaction } from '../db/client.ts';
import { lanesCount, publicId } from '../lib/ids.ts';
import { newestPosition } from '../events/read-range.ts';
import { type Destination, requireDestination, stateOf } from './destinations.ts';

export interface FeedStatus {
  readonly feedId: number;
  readonly kind: 'live' | 'replay';
  readonly replayId: string | null;
  readonly state: string;
  /** Newest position of the feed: of the log, or the last one of the replay. */
  readonly head: number;
  /** Every event up to here has ended or belongs to a parked user; the head when nothing waits. */
  readonly cursor: number;
  /** Events above that have not ended: exact up to 1,000 a lane, an estimate beyond; exact for a replay. */
  readonly lagEvents: number;
  /** Age of the oldest of them by the database's clock, 0 when there is none; of a replay, its own age. */
  readonly lagSeconds: number;
  readonly parkedUsers: number;
  readonly deadLetters: number;
  readonly delivered: number;
  readonly dead: number;
  readonly filtered: number;
}

export interface DestinationStatus {
  readonly destinationId: string;
  readonly state: Destination['state'];
  readonly pausedReason: string | null;
  /** The live feed and the replays that have not ended. */
  readonly feeds: readonly FeedStatus[];
}

interface FeedRow extends Pick<FeedStatus, 'kind' | 'state' | 'delivered' | 'dead' | 'filtered'> {
  readonly id: number;
  readonly toPosition: number | null;
  readonly total: number | null;
  readonly lowest: number;
  readonly ageSeconds: number;
  readonly parkedUsers: number;
  readonly deadLetters: number;
}

interface Lag {
  readonly cursor: number;
  readonly lagEvents: number;
  readonly lagSeconds: number;
}

const mostCounted = 1000;

/** @throws AppError not_found */
export async function readDestinationStatus(
  sql: Sql,
  publicDestinationId: string,
): Promise<DestinationStatus> {
  const row = await requireDestination(sql, publicDestinationId);
  const feeds = await sql.begin('isolation level repeatable read read only', async (tx) => {
    const head = await newestPosition(tx);
    const rows = await tx<FeedRow[]>`
      select f.id, f.kind, f.state, f.to_position as "toPosition", f.total, l.*,
        extract(epoch from clock_timestamp() - f.created_at)::double precision as "ageSeconds",
        (select count(*) from repeater.parked_users p where p.feed_id = f.id) as "parkedUsers",
        (select count(*) from repeater.dead_letters d where d.feed_id = f.id) as "deadLetters"
      from repeater.feeds f, lateral (
        select min(cursor) as lowest, sum(delivered)::bigint as delivered, sum(dead)::bigint as dead,
          sum(filtered)::bigint as filtered
        from repeater.feed_lanes l where l.feed_id = f.id
      ) l
      where f.destination_id = ${row.id} and f.state in ('running', 'paused')
      order by f.id`;
    const statuses: FeedStatus[] = [];
    for (const feed of rows) {
      const lag = feed.kind === 'live' ? await readLag(tx, feed.id, head) : replayLag(feed);
      statuses.push(present(feed, lag, feed.toPosition ?? head));
    }
    return statuses;
  });
  const { pausedReason } = row;
  return { destinationId: publicDestinationId, state: stateOf(row), pausedReason, feeds };
}

/** What waits above each lane's cursor. The low-water mark is just below the first of it. */
async function readLag(tx: Transaction, feedId: number, head: number): Promise<Lag> {
  const lanes = await tx<{ cursor: number; waiting: number; first: number; ageSeconds: number }[]>`
    select l.cursor, w.waiting, w.first,
      extract(epoch from clock_timestamp() - w.oldest)::double precision as "ageSeconds"
    from repeater.feed_lanes l, lateral (
      select count(*) as waiting, min(e.id) as first, min(e.received_at) as oldest
      from (
        select e.id, e.received_at from warehouse.events e
        where e.lane = l.lane and e.id > l.cursor and e.id <> all(l.ended_above)
        order by e.id limit ${mostCounted + 1}::integer
      ) e
    ) w
    where l.feed_id = ${feedId} and w.waiting > 0`;
  return {
    cursor: Math.min(head, ...lanes.map((lane) => lane.first - 1)),
    // Positions are dense over all lanes, so a lane has about its share of those above its cursor.
    lagEvents: lanes.reduce((sum, { waiting, cursor }) => {
      const share = Math.round((head - cursor) / lanesCount);
      return sum + (waiting > mostCounted ? Math.max(waiting, share) : waiting);
    }, 0),
    lagSeconds: Math.max(0, ...lanes.map((lane) => lane.ageSeconds)),
  };
}

function replayLag({ total, toPosition, lowest, ageSeconds, ...done }: FeedRow): Lag {
  const waiting = (total ?? 0) - done.delivered - done.dead - done.filtered;
  return {
    cursor: waiting === 0 ? (toPosition ?? lowest) : lowest,
    lagEvents: waiting,
    lagSeconds: waiting === 0 ? 0 : ageSeconds,
  };
}

function present(feed: FeedRow, lag: Lag, head: number): FeedStatus {
  const { id: feedId, kind, state, parkedUsers, deadLetters, delivered, dead, filtered } = feed;
  const replayId = kind === 'replay' ? publicId('rpl', feedId) : null;
  return { feedId, kind, replayId, state, head, ...lag, parkedUsers, deadLetters, delivered, dead, filtered };
}
