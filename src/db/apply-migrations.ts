/** Child process of migrate.ts: applies the migrations with drizzle-orm's migrator and says how it went. */
import { drizzle } from 'drizzle-orm/postgres-js';
import { migrate } from 'drizzle-orm/postgres-js/migrator';
import postgres from 'postgres';
import { migrations, type ApplyAnswer } from './migrate.ts';

process.once('message', (message) => {
  const { databaseUrl } = message as { databaseUrl: string };
  const client = postgres(databaseUrl, { max: 1, onnotice: () => {} });
  migrate(drizzle(client), { migrationsFolder: migrations.folder, migrationsSchema: migrations.schema })
    .then(
      (): ApplyAnswer => ({ problem: null }),
      (error: Error): ApplyAnswer => ({
        problem: error.cause instanceof Error ? error.cause.message : error.message,
      }),
    )
    .then(async (answer) => {
      await client.end();
      process.send?.(answer, () => process.disconnect());
    })
    .catch((error: unknown) => {
      throw error;
    });
});
