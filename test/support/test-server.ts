/**
 * The Postgres server that tests share: an embedded one in a temporary folder, or the one TEST_DATABASE_URL
 * names. Promises a migrated template database on it, and that both are gone after `stop()`. Durability is
 * off, since nothing here outlives a run: tests about crashes start a server of their own.
 */
import { randomBytes } from 'node:crypto';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import postgres from 'postgres';
import { startEmbeddedPostgres } from '../../src/db/embedded.ts';
import { migrateDatabase } from '../../src/db/migrate.ts';

export interface TestServer {
  /** Of the server's administrative database; the role may create databases. */
  url: string;
  /** The migrated database that test databases are copies of. */
  template: string;
  stop(): Promise<void>;
}

export async function startTestServer(givenUrl: string | undefined): Promise<TestServer> {
  const server =
    givenUrl === undefined ? await startTemporaryServer() : { url: givenUrl, stop: () => Promise.resolve() };
  const template = `template_${randomBytes(6).toString('hex')}`;
  try {
    await runSql(server.url, `create database ${template}`);
    await migrateDatabase(urlOf(server.url, template));
  } catch (error) {
    await server.stop();
    throw error;
  }
  return {
    url: server.url,
    template,
    async stop() {
      await runSql(server.url, `drop database ${template} with (force)`);
      await server.stop();
    },
  };
}

export function urlOf(serverUrl: string, database: string): string {
  const url = new URL(serverUrl);
  url.pathname = `/${database}`;
  return url.href;
}

export async function runSql(url: string, statement: string): Promise<postgres.RowList<postgres.Row[]>> {
  const sql = postgres(url, { max: 1, onnotice: nothing });
  try {
    return await sql.unsafe(statement);
  } finally {
    await sql.end();
  }
}

async function startTemporaryServer(): Promise<Pick<TestServer, 'url' | 'stop'>> {
  const folder = await mkdtemp(join(tmpdir(), 'repeater-test-'));
  await chmod(folder, 0o711);
  const remove = (): Promise<void> => rm(folder, { recursive: true, force: true, maxRetries: 10 });
  try {
    const { url, stop } = await startEmbeddedPostgres({
      dataDir: join(folder, 'data'),
      log: nothing,
      settings: { fsync: 'off', full_page_writes: 'off', max_connections: '300' },
    });
    return { url, stop: () => stop().then(remove) };
  } catch (error) {
    await remove();
    throw error;
  }
}

function nothing(): void {
  // Neither notices nor progress are of interest to a test run.
}
