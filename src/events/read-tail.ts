/**
 * The reader behind live delivery at the end of the log: the next events of many lanes in one order. Everything
 * below the last event of a page had been committed when it was read, so a page leaves nothing out.
 */
import type { Sql } from '../db/client.ts';
import { StoredEvent, storedColumns, type StoredRow } from './stored-event.ts';

/** The events of some lanes after a position (exclusive), in position order. */
export async function readTail(
  sql: Sql,
  tail: { readonly lanes: readonly number[]; readonly after: number; readonly limit: number },
): Promise<StoredEvent[]> {
  const rows = await sql`
    select ${sql.unsafe(storedColumns)}
    from warehouse.events e
    where e.lane = any(${tail.lanes as number[]}::smallint[]) and e.id > ${tail.after}::bigint
    order by e.id
    limit ${tail.limit}::integer`.values();
  return rows.map((row) => new StoredEvent(row as unknown as StoredRow));
}
