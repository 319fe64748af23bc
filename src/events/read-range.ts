/**
 * Reads the log in the one order across all lanes, page by page, with no transaction held open. A reader
 * that goes on from the last position it saw misses nothing: id order is commit order (see append.ts).
 *
 * How a page is found, measured on a million rows of 0.9 KB, 1,000 rows a page: `lane = any(0..31)` with a
 * window of ids through the primary key 2.4 ms and exactly the rows wanted; the BRIN index on id 2.7 ms, but
 * it also scans every page that vacuum has not summarized yet, which is where a tail reads; a merge of 32
 * lane scans 81 ms, because each must be ready to give the whole page.
 */
import type { Fragment, Sql, Transaction } from '../db/client.ts';
import { lanesCount } from '../lib/ids.ts';
import { StoredEvent, storedColumns, type StoredRow } from './stored-event.ts';

export interface Range {
  /** Exclusive. */
  readonly after: number;
  /** Inclusive; at most `newestPosition`, else a late commit could be passed over. */
  readonly upTo: number;
  readonly limit: number;
  /** On alias `e`; see routing/selection.ts. */
  readonly condition?: Fragment;
  /** True when the condition has an index of its own (some users): then the range is not read in windows. */
  readonly indexed?: boolean;
  readonly order?: 'ascending' | 'descending';
}

const lanes = Array.from({ length: lanesCount }, (_, lane) => lane);

/** Positions looked through by one statement: grows while little is found, so that rare events stay cheap to find. */
const widestWindow = 131_072;

/**
 * The newest position stored, 0 when there is none. Everything at or below it is committed: by the ingest
 * lock no event can still come in under one that is visible. Takes no lock. 32 index probes, 0.5 ms
 * (`max(id)` over the table has no index and took 117 ms).
 */
export async function newestPosition(sql: Sql | Transaction): Promise<number> {
  const [row] = await sql<{ newest: number | null }[]>`
    select max(newest.id) as newest
    from unnest(${lanes}::smallint[]) as l (lane), lateral (
      select e.id from warehouse.events e where e.lane = l.lane order by e.id desc limit 1
    ) newest`;
  return row?.newest ?? 0;
}

/** At most `limit` events of the range that satisfy the condition. Fewer means that the range holds no more. */
export async function readRange(sql: Sql | Transaction, range: Range): Promise<StoredEvent[]> {
  const { limit, indexed = false, order = 'ascending' } = range;
  const found: StoredEvent[] = [];
  let { after, upTo } = range;
  let width = indexed ? Number.POSITIVE_INFINITY : limit;
  while (after < upTo && found.length < limit) {
    const window =
      order === 'ascending'
        ? { after, upTo: Math.min(upTo, after + width) }
        : { after: Math.max(after, upTo - width), upTo };
    const page = await readWindow(sql, { ...range, ...window, limit: limit - found.length });
    found.push(...page);
    if (order === 'ascending') after = window.upTo;
    else upTo = window.after;
    width = Math.min(width * 4, Math.max(widestWindow, limit));
  }
  return found;
}

async function readWindow(sql: Sql | Transaction, range: Range): Promise<StoredEvent[]> {
  const rows = await sql`
    select ${sql.unsafe(storedColumns)}
    from warehouse.events e
    where e.lane = any(${lanes}::smallint[]) and e.id > ${range.after}::bigint and e.id <= ${range.upTo}::bigint
      and ${range.condition ?? sql`true`}
    order by e.id ${range.order === 'descending' ? sql`desc` : sql`asc`}
    limit ${range.limit}::integer`.values();
  return rows.map((row) => new StoredEvent(row as unknown as StoredRow));
}

/** Pages of a range from its lower end to its upper one; each page is read when it is asked for. */
export async function* readPages(sql: Sql, range: Omit<Range, 'order'>): AsyncGenerator<StoredEvent[]> {
  let { after } = range;
  for (;;) {
    const page = await readRange(sql, { ...range, after });
    const last = page.at(-1);
    if (!last) return;
    yield page;
    if (page.length < range.limit) return;
    after = last.position;
  }
}
