/**
 * Replays and how far they are. Counts are sums over the lanes' own counters, which move in the same
 * transactions as the cursors, so `done` reaches `total` exactly.
 */
import type { Fragment, Sql } from '../db/client.ts';
import type { ReplaySelection } from './selected-events.ts';

export interface Replay {
  /** Also the id of its feed. */
  readonly id: number;
  readonly destinationId: number;
  readonly selection: ReplaySelection;
  readonly order: 'alongside' | 'before-live';
  readonly state: 'running' | 'paused' | 'completed' | 'cancelled';
  readonly total: number;
  readonly delivered: number;
  readonly dead: number;
  readonly filtered: number;
  readonly ratePerSecond: number | null;
  readonly createdAt: string;
  readonly finishedAt: string | null;
  /** Since it was created, by the database's clock. */
  readonly ageSeconds: number;
}

export interface ReplayFilter {
  readonly destinationId: number | null;
  /** Only replays created before this one. */
  readonly before: number | null;
  readonly limit: number;
}

/** Replays, the newest first. */
export async function listReplays(sql: Sql, filter: ReplayFilter): Promise<Replay[]> {
  const { destinationId, before, limit } = filter;
  return readReplays(
    sql,
    sql`
      and (${destinationId}::integer is null or f.destination_id = ${destinationId}::integer)
      and (${before}::integer is null or f.id < ${before}::integer)
    order by f.id desc limit ${limit}::integer`,
  );
}

/** One replay; null when there is none of this id. */
export async function findReplay(sql: Sql, id: number): Promise<Replay | null> {
  const [replay] = await readReplays(sql, sql`and f.id = ${id}`);
  return replay ?? null;
}

async function readReplays(sql: Sql, rest: Fragment): Promise<Replay[]> {
  return sql<Replay[]>`
    select f.id, f.destination_id as "destinationId", coalesce(f.selection, '{}') as selection, f."order", f.state,
      coalesce(f.total, 0) as total, p.delivered, p.dead, p.filtered, f.rate_per_second as "ratePerSecond",
      f.created_at as "createdAt", f.finished_at as "finishedAt",
      extract(epoch from clock_timestamp() - f.created_at)::double precision as "ageSeconds"
    from repeater.feeds f, lateral (
      select coalesce(sum(l.delivered), 0)::bigint as delivered, coalesce(sum(l.dead), 0)::bigint as dead,
        coalesce(sum(l.filtered), 0)::bigint as filtered
      from repeater.feed_lanes l where l.feed_id = f.id
    ) p
    where f.kind = 'replay' ${rest}`;
}

/** Events of a replay that have ended, whatever their end. */
export function doneOf(replay: Replay): number {
  return replay.delivered + replay.dead + replay.filtered;
}
