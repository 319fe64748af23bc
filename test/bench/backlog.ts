/** Databases full of events, and deliveries of them from the first event to the last, timed until recorded. */
import postgres from 'postgres';
import { openPool, type Sql } from '../../src/db/client.ts';
import { migrateDatabase } from '../../src/db/migrate.ts';
import { appendEvents } from '../../src/events/append.ts';
import { laneOf, userKeyOf } from '../../src/lib/ids.ts';
import { createReplay } from '../../src/replay/create.ts';
import { openFeed } from '../../src/routing/feeds.ts';
import { note } from './measure.ts';
import { eventText } from './sample-events.ts';

export interface Backlog {
  readonly url: string;
  readonly sql: Sql;
  readonly events: number;
}

export async function createDatabase(serverUrl: string, name: string): Promise<string> {
  const admin = postgres(serverUrl, { max: 1, onnotice: () => {} });
  await admin.unsafe(`create database "${name}"`);
  await admin.end();
  const url = new URL(serverUrl);
  url.pathname = `/${name}`;
  await migrateDatabase(url.href);
  return url.href;
}

/** A database with so many events of so many users, stored by the program's own insert. */
export async function fillBacklog(serverUrl: string, events: number, users: number): Promise<Backlog> {
  const url = await createDatabase(serverUrl, `backlog_${events}_${users}`);
  const sql = openPool(url, 'admin');
  const startedAt = performance.now();
  await sql`insert into repeater.sources (name) values ('bench')`;
  for (let start = 0; start < events; start += 1_000) {
    const group = Array.from({ length: Math.min(1_000, events - start) }, (_, offset) => {
      const user = `user-${((start + offset) * 7919) % users}`;
      const userKey = userKeyOf(user, null);
      const messageId = `backlog-${start + offset}`;
      return {
        sourceId: 1,
        lane: laneOf(userKey),
        type: 'track' as const,
        event: 'Order Completed',
        userId: user,
        anonymousId: null,
        userKey,
        messageId,
        time: '2026-11-24T09:15:00.000Z',
        offsetMs: null,
        originalTime: '2026-11-24T09:15:00.000Z',
        sentTime: '2026-11-24T09:15:00.120Z',
        marks: null,
        text: eventText(user, messageId),
      };
    });
    await appendEvents(sql, group, 48);
  }
  // For the bare loop, which reads in position order; delivery has no use for it.
  await sql.unsafe(`create index on warehouse.events (id)`);
  await sql.unsafe('vacuum analyze warehouse.events');
  note(`${events} events of ${users} users stored in ${Math.round(performance.now() - startedAt)} ms`);
  return { url, sql, events };
}

export interface Delivery {
  readonly destinationId: number;
  readonly feedId: number;
}

/** A destination with its live feed from the first event on, or from the newest. */
export async function openLive(
  sql: Sql,
  type: string,
  options: { readonly settings?: object; readonly fromPosition?: number; readonly policy?: object } = {},
): Promise<Delivery> {
  return sql.begin(async (tx) => {
    const [row] = await tx<{ id: number }[]>`
      insert into repeater.destinations (type, name, settings, secrets, policy)
      values (${type}, ${type}, ${tx.json((options.settings ?? {}) as never)}, '{}', ${tx.json((options.policy ?? {}) as never)}) returning id`;
    const destinationId = (row as { id: number }).id;
    const feedId = await openFeed(tx, {
      destinationId,
      kind: 'live',
      selection: null,
      listed: false,
      fromPosition: options.fromPosition ?? 0,
      toPosition: null,
      order: 'alongside',
      ratePerSecond: null,
      total: null,
      lanes: 'all',
    });
    return { destinationId, feedId };
  });
}

/** Milliseconds until so many events of the feed are recorded as delivered. */
export async function untilDelivered(
  sql: Sql,
  feedId: number,
  events: number,
  startedAt: number,
): Promise<number> {
  for (;;) {
    const [row] = await sql<{ delivered: number }[]>`
      select coalesce(sum(delivered), 0)::bigint as delivered from repeater.feed_lanes where feed_id = ${feedId}`;
    if ((row?.delivered ?? 0) >= events) return performance.now() - startedAt;
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (performance.now() - startedAt > 120_000)
      throw new Error(`feed ${feedId} delivered ${row?.delivered} of ${events}`);
  }
}

/** Delivers the whole backlog to a new destination and takes it away again. Milliseconds. */
export async function deliverBacklog(
  backlog: Backlog,
  type: string,
  options: { readonly settings?: object; readonly events?: number } = {},
): Promise<number> {
  const startedAt = performance.now();
  const { destinationId, feedId } = await openLive(backlog.sql, type, options);
  const took = await untilDelivered(backlog.sql, feedId, options.events ?? backlog.events, startedAt);
  await removeDestination(backlog.sql, destinationId);
  return took;
}

/** Replays the whole backlog. Milliseconds, the freezing of the set included. */
export async function replayBacklog(backlog: Backlog, type: string): Promise<number> {
  const { sql } = backlog;
  const { destinationId } = await openLive(sql, type, { fromPosition: Number.MAX_SAFE_INTEGER });
  const startedAt = performance.now();
  const feedId = await createReplay(sql, {
    destinationId,
    selection: {},
    order: 'alongside',
    ratePerSecond: null,
  });
  const took = await untilDelivered(sql, feedId, backlog.events, startedAt);
  await removeDestination(sql, destinationId);
  return took;
}

export async function removeDestination(sql: Sql, destinationId: number): Promise<void> {
  await sql`update repeater.destinations set deleted_at = now(), version = version + 1 where id = ${destinationId}`;
  await sql`delete from repeater.parked_users p using repeater.feeds f where f.id = p.feed_id and f.destination_id = ${destinationId}`;
  await sql`update repeater.feeds set state = 'cancelled' where destination_id = ${destinationId}`;
}
