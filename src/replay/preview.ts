/**
 * What a replay would send, before anything is sent: exact counts from one pass over the selected events,
 * and what this destination type makes of repeated or old events.
 */
import type { Sql, Transaction } from '../db/client.ts';
import { StoredEvent, storedColumns, type StoredRow } from '../events/stored-event.ts';
import { type ReplaySelection, selectedEvents } from './selected-events.ts';

/** What matters here of a destination and its type (destinations/definition.ts). */
export interface ReplayTarget {
  readonly destinationId: number;
  /** Name of the type, for the warnings. */
  readonly typeName: string;
  readonly accepts: readonly string[];
  readonly replay: {
    readonly oldestEventHours: number | null;
    readonly honoursEventTime: boolean;
    readonly dedupeKey: string | null;
    readonly sideEffects: string | null;
  };
}

export interface ReplayPreview {
  readonly total: number;
  readonly users: number;
  /** Times of acceptance of the first and the last event; null when there is none. */
  readonly from: string | null;
  readonly to: string | null;
  readonly firstPosition: number | null;
  readonly lastPosition: number | null;
  /** The most frequent first, at most 20. */
  readonly byEvent: readonly {
    readonly type: string;
    readonly event: string | null;
    readonly count: number;
  }[];
  /** The first events, at most 5. */
  readonly samples: readonly StoredEvent[];
  readonly warnings: readonly string[];
  /** At the given rate; null without one. */
  readonly estimatedSeconds: number | null;
}

interface Totals extends Omit<ReplayPreview, 'samples' | 'warnings' | 'estimatedSeconds'> {
  readonly tooOld: number;
  readonly notAccepted: number;
}

const mostKinds = 20;
const mostSamples = 5;

/** Counts the selected events as they are now. */
export async function previewReplay(
  sql: Sql,
  target: ReplayTarget,
  options: { readonly selection: ReplaySelection; readonly ratePerSecond: number | null },
): Promise<ReplayPreview> {
  const { selection, ratePerSecond } = options;
  return sql.begin('isolation level repeatable read read only', async (tx) => {
    const totals = await countSelected(tx, target, selection);
    const { tooOld: _, notAccepted: __, ...counts } = totals;
    return {
      ...counts,
      samples: await firstEvents(tx, target, { selection, firstPosition: totals.firstPosition }),
      warnings: warningsOf(target, totals),
      estimatedSeconds: ratePerSecond === null ? null : Math.ceil(counts.total / ratePerSecond),
    };
  });
}

async function countSelected(
  tx: Transaction,
  target: ReplayTarget,
  selection: ReplaySelection,
): Promise<Totals> {
  // Grouped by user and kind first: the pass keeps a row per group in memory, where distinct users would be sorted.
  const [row] = await tx<Totals[]>`
    with groups as materialized (
      select e.user_key, e.type, e.event, count(*) as n,
        min(e.id) as first_id, max(e.id) as last_id, min(e.received_at) as first_at, max(e.received_at) as last_at,
        count(*) filter (
          where e."timestamp" < now() - ${target.replay.oldestEventHours}::double precision * interval '1 hour'
        ) as too_old
      ${selectedEvents(tx, target.destinationId, selection)}
      group by e.user_key, e.type, e.event
    ), kinds as (
      select type, event, sum(n)::bigint as n from groups group by type, event
    )
    select
      coalesce(sum(n), 0)::bigint as total, count(distinct user_key)::bigint as users,
      min(first_id) as "firstPosition", max(last_id) as "lastPosition",
      min(first_at) as "from", max(last_at) as "to", coalesce(sum(too_old), 0)::bigint as "tooOld",
      (select coalesce(sum(n), 0)::bigint from kinds where type <> all(${[...target.accepts]}::text[])) as "notAccepted",
      (select coalesce(json_agg(json_build_object('type', type, 'event', event, 'count', n)), '[]')
       from (select * from kinds order by n desc, type, event limit ${mostKinds}::integer) k) as "byEvent"
    from groups`;
  if (!row) throw new Error('An aggregate returned no row.');
  return row;
}

async function firstEvents(
  tx: Transaction,
  target: ReplayTarget,
  set: { readonly selection: ReplaySelection; readonly firstPosition: number | null },
): Promise<StoredEvent[]> {
  if (set.firstPosition === null) return [];
  const rows = await tx`
    select ${tx.unsafe(storedColumns)}
    ${selectedEvents(tx, target.destinationId, set.selection)} and e.id >= ${set.firstPosition}::bigint
    order by e.id limit ${mostSamples}::integer`.values();
  return rows.map((row) => new StoredEvent(row as unknown as StoredRow));
}

function warningsOf({ typeName, replay }: ReplayTarget, { total, tooOld, notAccepted }: Totals): string[] {
  const warnings: string[] = [];
  if (total === 0) return ['The selection holds no event.'];
  if (tooOld > 0) {
    warnings.push(
      `${tooOld} of ${total} events are older than ${replay.oldestEventHours} hours: ${typeName} refuses or moves them.`,
    );
  }
  if (notAccepted > 0)
    warnings.push(`${notAccepted} of ${total} events are of a type that ${typeName} does not take.`);
  if (!replay.honoursEventTime)
    warnings.push(`${typeName} files events under the time they arrive, not their own.`);
  if (replay.dedupeKey === null)
    warnings.push(`${typeName} does not recognise repeats: what it already has counts twice.`);
  if (replay.sideEffects !== null) warnings.push(replay.sideEffects);
  return warnings;
}
