/**
 * The only place that opens connections. Each kind of work has its own small pool, so that a slow
 * admin query can never take a connection from ingest, and one process stays within `poolSizes` in all.
 */
import postgres from 'postgres';

/**
 * A raw client: `sql\`…\`` with parameters. bigint columns arrive as numbers (positions stay far below
 * 2^53), timestamptz as ISO 8601 in UTC with all their microseconds, which a Date would cut.
 */
export type Sql = postgres.Sql<{ bigint: number; instant: string }>;
export type Transaction = postgres.TransactionSql<{ bigint: number; instant: string }>;

/** A piece of a statement, to be put into another one. */
export type Fragment = postgres.PendingQuery<postgres.Row[]>;

/** Connections of one process per kind of work; with graphile-worker's four and one for health checks, 16 at the most. */
export const poolSizes = { ingest: 3, delivery: 4, admin: 4 } as const;

export type PoolKind = keyof typeof poolSizes;

interface PoolTimeouts {
  statementMs: number;
  lockMs: number;
}

/** What a statement may take, by kind of work. Ingest gives up early: the answer is then 503 and the SDK comes again. */
const timeouts: Record<PoolKind, PoolTimeouts> = {
  ingest: { statementMs: 5_000, lockMs: 2_000 },
  delivery: { statementMs: 30_000, lockMs: 5_000 },
  admin: { statementMs: 60_000, lockMs: 5_000 },
};

interface OpenOptions {
  max?: number;
  applicationName?: string;
  onNotice?: (notice: postgres.Notice) => void;
}

/** Opens a raw client for one kind of work. Connections are made when first needed and closed after 60 idle seconds. */
export function openPool(url: string, kind: PoolKind, options: OpenOptions = {}): Sql {
  const limit = timeouts[kind];
  return postgres(url, {
    max: options.max ?? poolSizes[kind],
    idle_timeout: 60,
    connect_timeout: 5,
    // The default waits up to 20 s between attempts; acceptance must be back soon after the database is.
    backoff: (attempts: number) => Math.min(0.5, 0.05 * 2 ** attempts),
    // A session that lost its primary must not stay on a server that became read-only.
    target_session_attrs: 'read-write',
    onnotice: options.onNotice ?? (() => {}),
    connection: {
      application_name: options.applicationName ?? `repeater ${kind}`,
      statement_timeout: limit.statementMs,
      lock_timeout: limit.lockMs,
      idle_in_transaction_session_timeout: 10_000,
      TimeZone: 'UTC',
    },
    types: {
      bigint: { to: 20, from: [20], serialize: String, parse: Number },
      instant: { to: 1184, from: [1184], serialize: String, parse: isoInstant },
    },
  });
}

/** `2026-11-24 08:00:00.123456+00` as `2026-11-24T08:00:00.123456Z`; sessions run in UTC. */
function isoInstant(text: string): string {
  return text.endsWith('+00') ? `${text.slice(0, -3).replace(' ', 'T')}Z` : text;
}

/** As Postgres, the two drivers (ours and graphile-worker's) and the system say it. */
const lostSession =
  /^(?:08...|57P0[1-4]|ECONNRESET|ECONNREFUSED|EPIPE|ETIMEDOUT|CONNECTION_\w+|CONNECT_TIMEOUT)$|^Connection terminated|^Client has encountered a connection error|^Release called on client which has already|^Cannot use a pool after calling end/;

/**
 * Whether an error says that a session with Postgres was cut. Both drivers and graphile-worker do things that nobody
 * outside can wait for (statements of their own while a connection is opened, a pool that shuts itself down): when a
 * session is cut just then, the failure is one that nobody catches, and no reason for a server to end.
 */
export function isLostSession(error: unknown): boolean {
  const { code, message } = (error ?? {}) as { code?: unknown; message?: unknown };
  return [code, message].some((text) => typeof text === 'string' && lostSession.test(text));
}

/** The SQLSTATE of an error that Postgres reported; null when it came from elsewhere (the network, a bug). */
export function sqlStateOf(error: unknown): string | null {
  return error instanceof postgres.PostgresError ? error.code : null;
}
