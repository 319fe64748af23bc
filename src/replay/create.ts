/**
 * Starts a replay: from here on its set is fixed. Everything up to the newest position at this moment is
 * committed and never changes, so counting and reading the same bounds later give the same events; what an
 * index finds better (a few users, dead letters) is written down position by position.
 */
import type { Sql, Transaction } from '../db/client.ts';
import { newestPosition } from '../events/read-range.ts';
import { AppError } from '../lib/errors.ts';
import { publicId } from '../lib/ids.ts';
import { openFeed } from '../routing/feeds.ts';
import { type ReplaySelection, selectedEvents } from './selected-events.ts';

export interface NewReplay {
  readonly destinationId: number;
  readonly selection: ReplaySelection;
  readonly order: 'alongside' | 'before-live';
  /** Events per second over all workers; null: no limit of its own. */
  readonly ratePerSecond: number | null;
}

interface LaneCount {
  readonly lane: number;
  readonly count: number;
  readonly first: number;
  readonly last: number;
}

/**
 * Opens the feed of a replay in one transaction and returns its id. A replay of nothing is completed at once.
 * Holds no lock while it counts; ingest and delivery go on.
 * @throws AppError not_found when the destination does not exist or was deleted.
 */
export async function createReplay(sql: Sql, replay: NewReplay): Promise<number> {
  const { destinationId, selection, order, ratePerSecond } = replay;
  const listed = selection.userIds !== undefined || selection.deadLettersOnly === true;
  return sql.begin(async (tx) => {
    // Counting a year of history may take longer than an admin's query is allowed to.
    await tx`set local statement_timeout = '10min'`;
    const upTo = Math.min(selection.toPosition ?? Number.MAX_SAFE_INTEGER, await newestPosition(tx));
    const bounded = { ...selection, toPosition: upTo };
    const lanes = await (listed ? listSelected : countSelected)(tx, destinationId, bounded);
    await requireDestination(tx, destinationId);
    const total = lanes.reduce((sum, lane) => sum + lane.count, 0);
    const feedId = await openFeed(tx, {
      destinationId,
      kind: 'replay',
      selection,
      listed,
      // Between the first and the last event of the set: no lane reads what lies outside.
      fromPosition: total === 0 ? upTo : Math.min(...lanes.map((lane) => lane.first)) - 1,
      toPosition: total === 0 ? upTo : Math.max(...lanes.map((lane) => lane.last)),
      order,
      ratePerSecond,
      total,
      lanes: lanes.map((lane) => lane.lane),
    });
    if (listed && total > 0) {
      await tx`
        insert into repeater.feed_positions (feed_id, lane, position)
        select ${feedId}::integer, lane, position from pg_temp.selected_positions`;
    }
    return feedId;
  });
}

/** Taken late and kept short: a deletion either comes before, and is seen, or cancels the finished replay. */
async function requireDestination(tx: Transaction, id: number): Promise<void> {
  const [row] = await tx`
    select id from repeater.destinations where id = ${id} and deleted_at is null for no key update`;
  if (!row) {
    throw new AppError('not_found', {
      message: `destinationId: there is no destination ${publicId('dst', id)}.`,
    });
  }
}

async function countSelected(
  tx: Transaction,
  destinationId: number,
  selection: ReplaySelection,
): Promise<LaneCount[]> {
  return tx<LaneCount[]>`
    select e.lane, count(*) as count, min(e.id) as first, max(e.id) as last
    ${selectedEvents(tx, destinationId, selection)}
    group by e.lane order by e.lane`;
}

/** Finds the set once and counts what was found: a dead letter that is added meanwhile is either in both or in neither. */
async function listSelected(
  tx: Transaction,
  destinationId: number,
  selection: ReplaySelection,
): Promise<LaneCount[]> {
  await tx`create temporary table selected_positions (lane smallint, position bigint) on commit drop`;
  await tx`
    insert into pg_temp.selected_positions
    select e.lane, e.id ${selectedEvents(tx, destinationId, selection)}`;
  return tx<LaneCount[]>`
    select lane, count(*) as count, min(position) as first, max(position) as last
    from pg_temp.selected_positions group by lane order by lane`;
}
