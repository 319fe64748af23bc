/** `/livez`: the process runs. `/readyz`: it can reach the database and is not shutting down. Neither tells secrets. */
import { Hono } from 'hono';
import type { Sql } from '../db/client.ts';

interface HealthDeps {
  readonly sql: Sql;
  readonly isStopping: () => boolean;
}

const databaseMs = 2_000;

export function createHealthRoutes(deps: HealthDeps): Hono {
  const app = new Hono();
  app.get('/livez', (c) => c.json({ status: 'ok' }));
  app.get('/readyz', async (c) => {
    if (deps.isStopping()) return c.json({ status: 'stopping' }, 503);
    const reached = await Promise.race([
      deps.sql`select 1`.then(
        () => true,
        () => false,
      ),
      new Promise<false>((resolve) => setTimeout(resolve, databaseMs, false).unref()),
    ]);
    return reached
      ? c.json({ status: 'ok' })
      : c.json({ status: 'database unavailable' }, 503, { 'retry-after': '1' });
  });
  return app;
}
