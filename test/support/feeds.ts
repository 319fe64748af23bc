/**
 * Destinations, feeds and events of a test database, and the held transactions with which races are staged: one
 * session does its part and does not commit, another runs into it, and only then the first one goes on.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ReservedSql } from 'postgres';
import type { Sql } from '../../src/db/client.ts';
import { laneOf, userKeyOf } from '../../src/lib/ids.ts';
import type { NewReplay } from '../../src/replay/create.ts';
import { createReplay } from '../../src/replay/create.ts';
import { newestPosition } from '../../src/events/read-range.ts';
import { openFeed } from '../../src/routing/feeds.ts';
import { acceptedEvent, append } from './accepted-events.ts';

/** A pool or one session of it. */
type Session = Sql | ReservedSql<{ bigint: number; instant: string }>;

export interface Feed {
  readonly destinationId: number;
  readonly feedId: number;
}

const secret = `whsec_${Buffer.alloc(32).toString('base64')}`;

/** A destination with its live feed, which starts at the end of the log. */
export async function createLiveFeed(
  sql: Sql,
  type = 'webhook',
  { settings = {}, policy = {} }: { readonly settings?: object; readonly policy?: object } = {},
): Promise<Feed> {
  return sql.begin(async (tx) => {
    const [row] = await tx<{ id: number }[]>`
      insert into repeater.destinations (type, name, settings, secrets, policy)
      values (${type}, 'of a test', ${tx.json({ url: 'http://127.0.0.1:9/', secret, ...settings })}, '{}', ${tx.json(policy as never)}) returning id`;
    const { id: destinationId } = row as { id: number };
    const feedId = await openFeed(tx, {
      destinationId,
      kind: 'live',
      selection: null,
      listed: false,
      fromPosition: await newestPosition(tx),
      toPosition: null,
      order: 'alongside',
      ratePerSecond: null,
      total: null,
      lanes: 'all',
    });
    return { destinationId, feedId };
  });
}

/** A replay of everything stored, unless it says otherwise. */
export function startReplay(
  sql: Sql,
  destinationId: number,
  parts: Partial<NewReplay> = {},
): Promise<number> {
  return createReplay(sql, {
    destinationId,
    selection: {},
    order: 'alongside',
    ratePerSecond: null,
    ...parts,
  });
}

/** Appends one event for each user named, in order; returns the positions. */
export async function appendFor(sql: Session, ...users: readonly string[]): Promise<number[]> {
  const last = await append(
    sql,
    users.map((userId) => acceptedEvent({ userId })),
  );
  return users.map((_, index) => last - users.length + 1 + index);
}

export const keyOf = (userId: string) => userKeyOf(userId, null);
export const laneOfUser = (userId: string) => laneOf(keyOf(userId));

/** Users of the same lane as the first one, itself included. */
export function neighbours(count: number, userId = 'u0'): string[] {
  const found = [userId];
  for (let number = 1; found.length < count; number++) {
    if (laneOfUser(`n${number}`) === laneOfUser(userId)) found.push(`n${number}`);
  }
  return found;
}

/** A session with a transaction that stays open until it is told otherwise. */
export interface Held {
  readonly sql: ReservedSql<{ bigint: number; instant: string }>;
  /** Of its server process. */
  readonly pid: number;
  commit(): Promise<void>;
  rollback(): Promise<void>;
}

export async function hold(pool: Sql): Promise<Held> {
  const sql = await pool.reserve();
  const [row] = await sql<{ pid: number }[]>`select pg_backend_pid() as pid`;
  await sql`begin`;
  const end = async (how: 'commit' | 'rollback') => {
    await sql.unsafe(how);
    sql.release();
  };
  return {
    sql,
    pid: (row as { pid: number }).pid,
    commit: () => end('commit'),
    rollback: () => end('rollback'),
  };
}

/** Resolves once the server process waits for a lock. @throws Error after ten seconds */
export async function untilBlocked(sql: Sql, pid: number): Promise<void> {
  await untilTrue(`server process ${pid} waits for a lock`, async () => {
    const [row] = await sql<{ type: string | null }[]>`
      select wait_event_type as type from pg_stat_activity where pid = ${pid} and state = 'active'`;
    return row?.type === 'Lock';
  });
}

/** Asks until it is so. @throws Error naming what was awaited after the limit */
export async function untilTrue(
  what: string,
  isSo: () => Promise<boolean> | boolean,
  limitMs = 10_000,
): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error(`After ${limitMs} ms: ${what}: not yet.`);
    await sleep(10);
  }
}
