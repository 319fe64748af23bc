/**
 * `npm run bench`: every measure against a limit of the same run, as a table; exit code 1 when a "must" is
 * missed. `npm run bench -- ingest noop` runs the measures whose names contain one of the words.
 */
import { mkdtemp, rm, chmod } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbeddedPostgres } from '../../src/db/embedded.ts';
import { deliveryMeasures } from './delivery-measures.ts';
import { ingestMeasures } from './ingest-measures.ts';
import { holds, note, renderTable, type Row } from './measure.ts';

export interface Bench {
  readonly serverUrl: string;
  /** Whether a measure was asked for. */
  wants(name: string): boolean;
  /** Remembers the highest memory of a Repeater process. */
  memory(what: string, bytes: number): void;
}

const words = process.argv.slice(2);
const folder = await mkdtemp(join(tmpdir(), 'repeater-bench-'));
await chmod(folder, 0o711);
const startedAt = performance.now();
const embedded = await startEmbeddedPostgres({ dataDir: join(folder, 'data'), log: () => {} });
let peak = 0;
const bench: Bench = {
  serverUrl: embedded.url,
  wants: (name) => words.length === 0 || words.some((word) => name.includes(word)),
  memory(what, bytes) {
    note(`memory, ${what}: ${Math.round(bytes / 1_048_576)} MB`);
    peak = Math.max(peak, bytes);
  },
};
const rows: Row[] = [];
try {
  rows.push(...(await ingestMeasures(bench)));
  rows.push(...(await deliveryMeasures(bench)));
} finally {
  await embedded.stop();
  await rm(folder, { recursive: true, force: true });
}
const megabytes = peak / 1_048_576;
if (peak > 0) {
  rows.push({
    measure: 'highest memory of a Repeater process',
    reached: `${Math.round(megabytes)} MB`,
    limit: '-',
    ratio: megabytes,
    must: 300,
    aim: 150,
    better: 'less',
    unit: 'MB',
  });
}
note(
  `${cpus().length} x ${cpus()[0]?.model}, Node ${process.version}, ${Math.round((performance.now() - startedAt) / 1_000)} s`,
);
process.stdout.write(`${renderTable(rows)}\n`);
process.exitCode = rows.every((row) => holds(row, row.must)) ? 0 : 1;
