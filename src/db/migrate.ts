/**
 * Brings a database to this version: graphile-worker's schema, then migrations/ in order, under one
 * advisory lock, so that ten instances may start at once. Migrations only expand: the version before
 * runs on the new schema during an upgrade.
 */
import { fork } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Logger, runMigrations } from 'graphile-worker';
import postgres from 'postgres';

/** Folder of the migrations, and the schema that keeps which of them were applied. */
export const migrations = {
  folder: fileURLToPath(new URL('../../migrations', import.meta.url)),
  schema: 'repeater_migrations',
} as const;

const migrationLock = 727_001_000;
/** Oldest server this program is tested with. */
const oldestServer = 150_000;
const silent = new Logger(() => () => {});

/** From apply-migrations.ts: null when all went well. */
export type ApplyAnswer = { readonly problem: string | null };

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
    if (await isBehind(client)) await applyInChild(databaseUrl);
    await client`select warehouse.ensure_partitions()`;
  } finally {
    await client.end({ timeout: 5 });
  }
}

/** Whether the newest migration has not been applied yet. */
async function isBehind(client: postgres.Sql): Promise<boolean> {
  const journal = JSON.parse(await readFile(`${migrations.folder}/meta/_journal.json`, 'utf8')) as {
    entries: { when: number }[];
  };
  const [table] = await client<{ exists: boolean }[]>`
    select to_regclass(${`${migrations.schema}.__drizzle_migrations`}) is not null as exists`;
  if (!table?.exists) return true;
  const [applied] = await client<{ newest: string | null }[]>`
    select max(created_at) as newest from ${client(`${migrations.schema}.__drizzle_migrations`)}`;
  return Number(applied?.newest ?? 0) < Math.max(...journal.entries.map((entry) => entry.when));
}

/**
 * drizzle-orm's migrator in a process of its own: loading drizzle-orm costs 250 MB that are never given back
 * (its package.json lists thousands of files, read anew for each), and a running server has no use for it.
 */
function applyInChild(databaseUrl: string): Promise<void> {
  return new Promise((resolve, reject) => {
    // execArgv: under `node --test` the child would otherwise be another run of all the tests.
    const child = fork(fileURLToPath(new URL('apply-migrations.ts', import.meta.url)), {
      stdio: 'inherit',
      execArgv: [],
    });
    let answer: ApplyAnswer = { problem: 'The migration process ended early.' };
    child.on('message', (message) => (answer = message as ApplyAnswer));
    child.on('error', reject);
    child.on('exit', () => {
      if (answer.problem === null) resolve();
      else reject(new Error(`Migrating the database failed: ${answer.problem}`));
    });
    // Not as an argument: those can be read by everybody on the machine.
    child.send({ databaseUrl });
  });
}
