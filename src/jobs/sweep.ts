/**
 * The safety net: once a second one worker of the installation wakes whatever should be running and is not
 * (a lane whose worker died, an event whose wake-up was lost, an overdue retry), ends finished replays, and
 * frees the jobs of workers that went silent. A crash anywhere costs about a second, never an event.
 */
import { hostname } from 'node:os';
import type { Sql } from '../db/client.ts';
import type { Log } from '../lib/log.ts';

const sweepMs = 1_000;
/** Every so many sweeps all lanes are compared with the whole log, else only with its newest minutes. */
const fullEvery = 60;

interface SweepDeps {
  readonly sql: Sql;
  readonly log: Log;
  readonly workerId: string;
  /** graphile-worker's ids of this process. */
  readonly jobIds: () => readonly string[];
}

/** Starts sweeping; the returned function stops it and signs this worker off. */
export function startSweep(deps: SweepDeps): () => Promise<void> {
  let count = 0;
  let knownIds: readonly string[] = [];
  let sweeping: Promise<void> | null = null;
  const sweep = async () => {
    const { sql } = deps;
    await sql`
      insert into repeater.workers (id, host, pid, graphile_ids)
      values (${deps.workerId}, ${hostname()}, ${process.pid}, ${[...deps.jobIds()]}::text[])
      on conflict (id) do update set seen_at = clock_timestamp(), graphile_ids = excluded.graphile_ids`;
    const ids = deps.jobIds();
    const ended = knownIds.filter((id) => !ids.includes(id));
    if (ended.length > 0) await sql`select graphile_worker.force_unlock_workers(${ended}::text[])`;
    knownIds = [...ids];
    const full = count % fullEvery === 0;
    await sql`select repeater.sweep(${full ? null : '10 minutes'}::interval)`;
    if (full) await sql`select warehouse.ensure_partitions()`;
    count++;
  };
  const tick = () => {
    sweeping ??= sweep()
      .catch((error: unknown) => deps.log.warn({ err: error }, 'the sweep failed; trying again'))
      .finally(() => (sweeping = null));
  };
  const timer = setInterval(tick, sweepMs);
  tick();
  return async () => {
    clearInterval(timer);
    await sweeping;
    await deps.sql`delete from repeater.workers where id = ${deps.workerId}`.catch((error: unknown) => {
      deps.log.debug({ err: error }, 'signing off failed; the sweep of another worker does it');
    });
  };
}
