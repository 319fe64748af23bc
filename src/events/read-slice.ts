/**
 * The readers behind delivery: the next events of some lanes, and the next events of one user, always in
 * position order after a given position. A page holds no transaction open. Both use one index each, (lane, id)
 * and (user_key, id), whatever the statistics say: the delivery pool forbids sequential scans.
 */
import type { Fragment, Sql } from '../db/client.ts';
import { StoredEvent, storedColumns, type StoredRow } from './stored-event.ts';

/** Which events belong to a feed. */
export interface Slice {
  readonly feedId: number;
  /** True: the feed's positions are listed in repeater.feed_positions. */
  readonly listed: boolean;
  /** Inclusive upper bound; null: no end. */
  readonly upTo: number | null;
  /** Further condition on alias `e`; null: every event. */
  readonly condition: ((sql: Sql) => Fragment) | null;
}

/** The next events of each lane after its own position, at most `limit` a lane, lane by lane. */
export async function readLanes(
  sql: Sql,
  slice: Slice,
  lanes: { readonly lanes: readonly number[]; readonly after: readonly number[]; readonly limit: number },
): Promise<StoredEvent[]> {
  const columns = sql.unsafe(storedColumns);
  const rows = await sql`
    select ${columns}
    from unnest(${lanes.lanes as number[]}::smallint[], ${lanes.after as number[]}::bigint[]) as l (lane, after)
    cross join lateral (
      select e.*
      from ${sliceTables(sql, slice)}
      where e.lane = l.lane and ${sliceBounds(sql, slice)} > l.after ${sliceConditions(sql, slice)}
      order by ${slice.listed ? sql`p.position` : sql`e.id`}
      limit ${lanes.limit}::integer
    ) as e`.values();
  return rows.map((row) => new StoredEvent(row as unknown as StoredRow));
}

/** The next events of a user from a position on (inclusive). */
export async function readUser(
  sql: Sql,
  slice: Slice,
  user: { readonly userKey: string; readonly from: number; readonly limit: number },
): Promise<StoredEvent[]> {
  const rows = await sql`
    select ${sql.unsafe(storedColumns)}
    from warehouse.events e
    where e.user_key = ${user.userKey} and e.id >= ${user.from}::bigint ${sliceConditions(sql, slice)}
      ${slice.listed ? sql`and exists (select from repeater.feed_positions p where p.feed_id = ${slice.feedId}::integer and p.lane = e.lane and p.position = e.id)` : sql``}
    order by e.id
    limit ${user.limit}::integer`.values();
  return rows.map((row) => new StoredEvent(row as unknown as StoredRow));
}

/** A listed feed is read from its list, each position looked up in the log by (lane, id). */
function sliceTables(sql: Sql, slice: Slice): Fragment {
  return slice.listed
    ? sql`repeater.feed_positions p join warehouse.events e on e.lane = p.lane and e.id = p.position`
    : sql`warehouse.events e`;
}

function sliceBounds(sql: Sql, slice: Slice): Fragment {
  return slice.listed
    ? sql`p.feed_id = ${slice.feedId}::integer and p.lane = l.lane and p.position`
    : sql`e.id`;
}

function sliceConditions(sql: Sql, slice: Slice): Fragment {
  return sql`
    ${slice.upTo === null ? sql`` : sql`and e.id <= ${slice.upTo}::bigint`}
    ${slice.condition === null ? sql`` : sql`and ${slice.condition(sql)}`}`;
}
