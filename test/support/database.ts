/**
 * A fresh, migrated database per test file, on the run's server; a file run alone starts that server for
 * itself. Import it at the top of a test file. `drop()` fails when the code under test left a connection open.
 */
import { randomBytes } from 'node:crypto';
import { after } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { runSql, startTestServer, type TestServer, urlOf } from './test-server.ts';

export interface TestDatabase {
  url: string;
  drop(): Promise<void>;
}

/** How long the hooks of a test file may take to drop what they made, before the file's own server goes anyway. */
const dropMs = 15_000;

let ownServer: Promise<TestServer> | undefined;
let isOver = false;
let dropLate: NodeJS.Timeout | undefined;
const undropped = new Set<string>();
// Hooks run in the order of their registration: this one before the test file's own, which still need the server.
after(async () => {
  isOver = true;
  if (undropped.size === 0) await stopOwnServer();
  else dropLate = setTimeout(() => void stopOwnServer(), dropMs);
});

async function stopOwnServer(): Promise<void> {
  clearTimeout(dropLate);
  const server = await ownServer;
  ownServer = undefined;
  await server?.stop();
}

export async function createTestDatabase(): Promise<TestDatabase> {
  const server = await findServer();
  const name = `test_${randomBytes(6).toString('hex')}`;
  await runSql(server.url, `create database ${name} template ${server.template}`);
  undropped.add(name);
  return {
    url: urlOf(server.url, name),
    async drop() {
      const open = await openConnections(server.url, name);
      await dropDatabase(server.url, name);
      undropped.delete(name);
      if (isOver && undropped.size === 0) await stopOwnServer();
      if (open.length > 0) throw new Error(`Connections were left open: ${JSON.stringify(open)}`);
    },
  };
}

/** Force needs the right to end every session, and an autovacuum worker's is a superuser's: it goes by itself. */
async function dropDatabase(serverUrl: string, name: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await runSql(serverUrl, `drop database ${name} with (force)`);
      return;
    } catch (error) {
      if ((error as { code?: unknown }).code !== '42501' || tries === 40) throw error;
      await sleep(250);
    }
  }
}

async function findServer(): Promise<Pick<TestServer, 'url' | 'template'>> {
  const { TEST_DATABASE_URL: url, TEST_DATABASE_TEMPLATE: template } = process.env;
  if (url !== undefined && template !== undefined) return { url, template };
  ownServer ??= startTestServer(url);
  return ownServer;
}

/** Postgres notices a closed socket a moment later, so each gets that moment. */
async function openConnections(serverUrl: string, database: string): Promise<unknown[]> {
  const look = `select application_name, state, query from pg_stat_activity
                where datname = '${database}' and backend_type = 'client backend'`;
  for (let tries = 0; ; tries++) {
    const open = [...(await runSql(serverUrl, look))];
    if (open.length === 0 || tries === 20) return open;
    await sleep(50);
  }
}
