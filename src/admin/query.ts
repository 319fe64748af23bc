/**
 * SQL for people: one statement that reads, in a READ ONLY transaction that is always rolled back, with a
 * time limit and a bounded answer. Postgres holds the line, not a parser of ours: the extended protocol takes
 * a single statement, a read-only transaction refuses every write, and it cannot be made writable once the
 * statement has begun. It runs with the program's own database role and so can read all that it can.
 */
import type { Sql } from '../db/client.ts';
import { AppError } from '../lib/errors.ts';
import type { Query } from './input.ts';

export interface QueryResult {
  readonly columns: readonly string[];
  /** Numbers, booleans, JSON and null as such; everything else in Postgres's own text form. */
  readonly rows: readonly (readonly unknown[])[];
  readonly rowCount: number;
  /** True when there was more than `limit` rows, or more than 16 MB. */
  readonly truncated: boolean;
}

const timeoutMs = 30_000;
const mostBytes = 16 * 1024 * 1024;
const rowsPerFetch = 100;
const mostAtOnce = 2;

/** Statements that return rows and nothing else; COPY could write files and run programs even when reading. */
const reads = /^(?:\s+|--[^\n]*(?:\n|$)|\/\*[\s\S]*?\*\/|\()*(?:select|with|values|table|show|explain)\b/i;

/** What runs a query: `createQueryRunner`. @throws AppError query_failed, rate_limited */
export type RunQuery = (query: Query) => Promise<QueryResult>;

/** Makes the function that runs queries, at most two at a time: the pool has to serve everybody else too. */
export function createQueryRunner(sql: Sql): RunQuery {
  let running = 0;
  return async (query) => {
    if (!reads.test(query.query)) {
      throw new AppError('query_failed', {
        message: 'query: expected a statement that reads: select, with, values, table, show or explain.',
      });
    }
    if (running >= mostAtOnce) {
      const message = `${mostAtOnce} queries are running already; try again when one has ended.`;
      throw new AppError('rate_limited', { message, retryAfterSeconds: 1 });
    }
    running++;
    try {
      return await run(sql, query);
    } finally {
      running--;
    }
  };
}

async function run(sql: Sql, { query, limit }: Query): Promise<QueryResult> {
  const session = await sql.reserve();
  try {
    await session`begin transaction read only`;
    await session.unsafe(`set local statement_timeout = ${timeoutMs}`);
    // A cursor means the extended protocol, which is what makes Postgres refuse a second statement.
    return await collect(session.unsafe(query).raw(), limit);
  } catch (error) {
    if (error instanceof sql.PostgresError) throw queryFailed(error);
    throw error;
  } finally {
    await session`rollback`;
    // Session locks outlive the transaction, and this session goes back to the pool.
    await session`select pg_advisory_unlock_all()`;
    session.release();
  }
}

type RawQuery = ReturnType<ReturnType<Sql['unsafe']>['raw']>;

interface Column {
  readonly name: string;
  readonly type: number;
}

async function collect(query: RawQuery, limit: number): Promise<QueryResult> {
  const rows: unknown[][] = [];
  let bytes = 0;
  for await (const batch of query.cursor(rowsPerFetch)) {
    const columns = columnsOf(query);
    for (const row of batch) {
      bytes += row.reduce((sum, value) => sum + ((value as Buffer | null)?.length ?? 0), 0);
      if (rows.length === limit || bytes > mostBytes) return finish(query, rows, true);
      rows.push(row.map((value, index) => present(value, columns[index]?.type ?? 0)));
    }
  }
  return finish(query, rows, false);
}

function finish(query: RawQuery, rows: unknown[][], truncated: boolean): QueryResult {
  return { columns: columnsOf(query).map((column) => column.name), rows, rowCount: rows.length, truncated };
}

/** What the driver keeps of the row description; it hands out no batch, and so no columns, for no rows. */
function columnsOf(query: RawQuery): readonly Column[] {
  return (query as { statement?: { columns?: readonly Column[] } }).statement?.columns ?? [];
}

const numberTypes = new Set([20, 21, 23, 26, 700, 701]);
const booleanType = 16;
const jsonTypes = new Set([114, 3802]);

function present(value: Buffer | null, type: number): unknown {
  if (value === null) return null;
  const text = value.toString('utf8');
  if (type === booleanType) return text === 't';
  if (jsonTypes.has(type)) return JSON.parse(text) as unknown;
  // A number that JavaScript would round, NaN and Infinity stay text; `numeric` always does.
  const number = numberTypes.has(type) ? Number(text) : NaN;
  return Number.isFinite(number) && (type !== 20 || Number.isSafeInteger(number)) ? number : text;
}

function queryFailed(error: InstanceType<Sql['PostgresError']>): AppError {
  const { code, detail, hint, position } = error;
  // The protocol's words for what a person calls a second statement.
  const isSecond = error.message.startsWith('cannot insert multiple commands');
  return new AppError('query_failed', {
    message: isSecond ? 'query: expected one statement, got several.' : error.message,
    details: {
      sqlstate: code,
      ...(detail && { detail }),
      ...(hint && { hint }),
      ...(position && { position: Number(position) }),
    },
    cause: error,
  });
}
