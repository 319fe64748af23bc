/**
 * A Repeater reduced to owning its embedded Postgres, for tests that kill it: prints one JSON line when the
 * server is up (or why it is not), stops it in order on SIGTERM, and like a draining Repeater outlives SIGINT.
 */
import { startEmbeddedPostgres } from '../../src/db/embedded.ts';

const dataDir = process.argv[2];
if (dataDir === undefined) throw new Error('usage: embedded-owner.ts <data folder>');
process.on('SIGINT', () => undefined);
try {
  const { url, adopted, stop } = await startEmbeddedPostgres({ dataDir, log: () => undefined });
  process.once('SIGTERM', () => void stop());
  process.stdout.write(`${JSON.stringify({ url, adopted })}\n`);
} catch (error) {
  process.stdout.write(`${JSON.stringify({ error: String(error) })}\n`);
  process.exitCode = 1;
}
