/**
 * Repeater as serve.ts builds it, in a process of its own, with destination types that only a benchmark has.
 * The role decides what runs; everything else is the real composition.
 */
import { loadConfig } from '../../src/config/env.ts';
import { openPool } from '../../src/db/client.ts';
import { resolveInstallation } from '../../src/cli/installation.ts';
import { serve } from '../../src/cli/serve.ts';
import { loadDestinations } from '../../src/destinations/catalogue.ts';
import { createLog } from '../../src/lib/log.ts';
import { benchTypes } from './bench-destinations.ts';
import { childArgument, serveParent } from './children.ts';

const { databaseUrl, role, port } = childArgument() as { databaseUrl: string; role: string; port: number };
const config = loadConfig({
  environment: {
    DATABASE_URL: databaseUrl,
    ROLE: role,
    PORT: String(port),
    HOST: '127.0.0.1',
    ADMIN_TOKEN: 'token-of-the-benchmark',
    WRITE_KEY: 'key-of-the-benchmark',
    SECRET_KEY: 'secret-key-of-the-benchmark',
    ALLOW_PRIVATE_DESTINATIONS: 'true',
    LOG_LEVEL: 'warn',
  },
});
const sql = openPool(databaseUrl, 'admin', { max: 1 });
const installation = await resolveInstallation(config, sql);
await sql.end();
const server = await serve({
  config,
  databaseUrl,
  installation,
  log: createLog({ level: 'warn', destination: process.stderr }),
  catalogue: await loadDestinations({ extra: benchTypes }),
});
process.once('SIGTERM', () => void server.stop().then(() => process.exit(0)));
serveParent(() => Promise.resolve(null));
