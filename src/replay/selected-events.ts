/**
 * The events that a replay would send. Preview counts them and create freezes them through this one clause,
 * so that what was previewed is what is sent.
 */
import type { Fragment, Sql, Transaction } from '../db/client.ts';
import { type Selection, selectionCondition } from '../routing/selection.ts';

/** A selection, perhaps only of the events that have a dead letter of the destination (of any of its feeds). */
export interface ReplaySelection extends Selection {
  readonly deadLettersOnly?: boolean;
}

/**
 * `from … where …` over alias `e` of warehouse.events. Dead letters lead to their events by (lane, id),
 * however long the log is; an event that died in several feeds is selected once.
 */
export function selectedEvents(
  sql: Sql | Transaction,
  destinationId: number,
  selection: ReplaySelection,
): Fragment {
  const condition = selectionCondition(sql, selection);
  if (selection.deadLettersOnly !== true) return sql`from warehouse.events e where ${condition}`;
  return sql`
    from (
      select distinct d.lane, d.position from repeater.dead_letters d where d.destination_id = ${destinationId}::integer
    ) d
    join warehouse.events e on e.lane = d.lane and e.id = d.position
    where ${condition}`;
}
