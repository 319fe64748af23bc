/**
 * Feeds and their lanes: opening, waking, holding. What a worker does with a lane once it has it is
 * delivery's; what must be atomic is in migrations/0002_delivery.sql.
 */
import type { Sql, Transaction } from '../db/client.ts';
import { lanesCount } from '../lib/ids.ts';
import type { Selection } from './selection.ts';

export interface NewFeed {
  readonly destinationId: number;
  readonly kind: 'live' | 'replay';
  /** Null: every event. */
  readonly selection: Selection | null;
  /** True when the caller writes the positions to repeater.feed_positions in the same transaction. */
  readonly listed: boolean;
  /** Exclusive. */
  readonly fromPosition: number;
  /** Inclusive; null for a live feed. */
  readonly toPosition: number | null;
  readonly order: 'alongside' | 'before-live';
  readonly ratePerSecond: number | null;
  readonly total: number | null;
  /** Lanes that hold events of the feed; the others are made already finished. */
  readonly lanes: readonly number[] | 'all';
}

/** Makes a feed with its lanes and wakes those with work, all in the caller's transaction. Returns the feed's id. */
export async function openFeed(tx: Transaction, feed: NewFeed): Promise<number> {
  const finished =
    feed.toPosition !== null && (feed.total === 0 || (feed.lanes !== 'all' && feed.lanes.length === 0));
  const [row] = await tx<{ id: number }[]>`
    insert into repeater.feeds (destination_id, kind, state, selection, listed, from_position, to_position,
      "order", rate_per_second, total, finished_at)
    values (${feed.destinationId}, ${feed.kind}, ${finished ? 'completed' : 'running'},
      ${feed.selection === null ? null : tx.json(feed.selection as never)}, ${feed.listed}, ${feed.fromPosition},
      ${feed.toPosition}, ${feed.order}, ${feed.ratePerSecond}, ${feed.total}, ${finished ? tx`clock_timestamp()` : null})
    returning id`;
  const id = (row as { id: number }).id;
  const withWork =
    feed.lanes === 'all' ? Array.from({ length: lanesCount }, (_, lane) => lane) : [...feed.lanes];
  // A live feed that starts at the head has nothing to do yet; one from the beginning and a replay have.
  const awake = feed.kind === 'replay' ? !finished : feed.fromPosition === 0;
  await tx`
    insert into repeater.feed_lanes (feed_id, lane, cursor, awake)
    select ${id}::integer, lane,
      case when lane = any(${withWork}::integer[]) and not ${finished}::boolean
        then ${feed.fromPosition}::bigint else ${feed.toPosition ?? feed.fromPosition}::bigint end,
      ${awake}::boolean and lane = any(${withWork}::integer[])
    from generate_series(0, ${lanesCount - 1}::integer) as lane`;
  if (awake)
    await tx`select repeater.add_lane_jobs(array_fill(${id}::integer, array[${withWork.length}::integer]), ${withWork}::smallint[])`;
  return id;
}

/** Pauses, resumes or cancels a replay. Returns false when it has ended already (completed or cancelled). */
export async function setFeedState(
  tx: Transaction,
  feedId: number,
  state: 'running' | 'paused' | 'cancelled',
): Promise<boolean> {
  const rows = await tx<{ destinationId: number }[]>`
    update repeater.feeds
    set state = ${state}, finished_at = ${state === 'cancelled' ? tx`clock_timestamp()` : null}
    where id = ${feedId} and state in ('running', 'paused')
    returning destination_id as "destinationId"`;
  const [feed] = rows;
  if (!feed) return false;
  // Cancelling a before-live replay lets the live feed go on, so both kinds of change may wake others.
  await wakeDestination(tx, feed.destinationId);
  if (state === 'cancelled') {
    // One that is being tried at this moment holds back the live feed until its worker lets go; the sweep removes it.
    await tx`
      delete from repeater.parked_users
      where feed_id = ${feedId} and (lease_until is null or lease_until < clock_timestamp())`;
  }
  return true;
}

/** Changes the rate of a replay, for all workers within a second. Returns false when it has ended already. */
export async function setFeedRate(
  tx: Transaction,
  feedId: number,
  ratePerSecond: number | null,
): Promise<boolean> {
  const changed = await tx`
    update repeater.feeds set rate_per_second = ${ratePerSecond}
    where id = ${feedId} and state in ('running', 'paused') returning id`;
  return changed.length > 0;
}

/** Looks at every lane and waiting user of a destination again: after it was enabled, repaired or changed. */
export async function wakeDestination(sql: Sql | Transaction, destinationId: number): Promise<void> {
  await sql`select repeater.wake_destination(${destinationId})`;
}
