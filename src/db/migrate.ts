/**
 * Brings a database to this version: graphile-worker's schema, then migrations/ in order, under one
 * advisory lock, so that ten instances may start at once. Migrations only expand: the version before
 * runs on the new schema during an upgrade.
 */
import { fileURLToPath } from 'node:url';
import { drizzle } from 'drizzle-orm/postgres-js';
import { migrate } from 'drizzle-orm/postgres-js/migrator';
import { Logger, runMigrations } from 'graphile-worker';
import postgres from 'postgres';

const migrationsFolder = fileURLToPath(new URL('../../migrations', import.meta.url));
const migrationLock = 727_001_000;

const silent = new Logger(() => () => {});

/** Oldest server this program is tested with. */
const oldestServer = 150_000;

/**
 * Applies what is missing. Safe to call at every start and by many processes at once.
 * @throws Error when the server is older than PostgreSQL 15, or when a migration fails (nothing of it stays).
 */
export async function migrateDatabase(databaseUrl: string): Promise<void> {
  const client = postgres(databaseUrl, { max: 1, onnotice: () => {}, connect_timeout: 10 });
  try {
    const [server] = await client<{ version: string; number: string }[]>`
      select current_setting('server_version') as version, current_setting('server_version_num') as number`;
    if (Number(server?.number) < oldestServer) {
      throw new Error(`PostgreSQL 15 or later is needed; this server is ${server?.version}.`);
    }
    await client`select pg_advisory_lock(${migrationLock})`;
    await runMigrations({ connectionString: databaseUrl, logger: silent });
    await migrate(drizzle(client), { migrationsFolder, migrationsSchema: 'repeater_migrations' });
    await client`select warehouse.ensure_partitions()`;
  } finally {
    await client.end({ timeout: 5 });
  }
}
