import { defineConfig } from 'drizzle-kit';

/** Only `drizzle-kit generate` is used: migrations are applied by `repeater migrate` under a lock. */
export default defineConfig({
  dialect: 'postgresql',
  schema: './src/db/tables.ts',
  out: './migrations',
});
