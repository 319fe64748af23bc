/**
 * A stage for one death: a database of its own, a worker that is doomed, and its heir, which is stopped until the
 * doomed one has been killed, so that everything before happens in the doomed one.
 */
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase, type TestDatabase } from './database.ts';
import { appendFor, createLiveFeed, type Feed, hold, laneOfUser, untilTrue } from './feeds.ts';
import { type RepeaterProcess, startRepeater } from './process.ts';
import type { Inbox, Receiver } from './receiver.ts';

export interface Stage {
  readonly sql: Sql;
  readonly databaseUrl: string;
  readonly feed: Feed;
  readonly inbox: Inbox;
  readonly doomed: RepeaterProcess;
  readonly heir: RepeaterProcess;
  /** Appends events of these users, in order, and wakes their lanes; the positions. */
  append(...users: readonly string[]): Promise<number[]>;
  /** The lane's row, locked by a session of its own; resolves with what lets it go. */
  lockLane(userId: string): Promise<() => Promise<void>>;
  /** Resolves when a session of the doomed worker waits for a lock in a statement that holds these words. */
  untilBlocked(words: string): Promise<void>;
  /** kill -9, its sessions end at once, and the heir goes on. Resolves with the time, by performance.now(). */
  kill(): Promise<number>;
  close(): Promise<void>;
}

const policy = { retry: { initialMs: 1, maxMs: 1 } };

export async function setStage(receiver: Receiver, name: string): Promise<Stage> {
  const database: TestDatabase = await createTestDatabase();
  const sql = openPool(database.url, 'admin', { max: 8 });
  const inbox = receiver.inbox(name);
  // A feed that starts before the first event ever has all its lanes awake.
  await appendFor(sql, 'first of all');
  const feed = await createLiveFeed(sql, 'webhook', { settings: { url: inbox.url }, policy });
  const start = () => startRepeater({ DATABASE_URL: database.url, ROLE: 'worker' });
  const [doomed, heir] = await Promise.all([start(), start()]);
  heir.child.kill('SIGSTOP');
  return {
    sql,
    databaseUrl: database.url,
    feed,
    inbox,
    doomed,
    heir,
    async append(...users) {
      const positions = await appendFor(sql, ...users);
      await sql`select repeater.wake_lanes(${[...new Set(users.map(laneOfUser))]}::smallint[])`;
      return positions;
    },
    async lockLane(userId) {
      const held = await hold(sql);
      await held.sql`
        select from repeater.feed_lanes where feed_id = ${feed.feedId} and lane = ${laneOfUser(userId)} for update`;
      return () => held.commit();
    },
    untilBlocked: (words) =>
      untilTrue(`the worker waits in ${words}`, async () => {
        const rows = await sql`
          select from pg_stat_activity where datname = current_database() and application_name = 'repeater delivery'
            and wait_event_type = 'Lock' and query like ${`%${words}%`}`;
        return rows.length > 0;
      }),
    async kill() {
      await doomed.kill('SIGKILL');
      // What a dead client asked for, Postgres would still carry out.
      await sql`
        select pg_terminate_backend(pid) from pg_stat_activity
        where datname = current_database() and application_name like 'repeater delivery' and state = 'active'`;
      heir.child.kill('SIGCONT');
      return performance.now();
    },
    async close() {
      heir.child.kill('SIGCONT');
      await Promise.all([doomed.kill(), heir.kill()]);
      await sql.end();
      await database.drop();
    },
  };
}
