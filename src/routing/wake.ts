/**
 * Wakes the sleeping lanes of freshly stored events, after their commit. Calls that come while one is under
 * way are gathered into the next, so that a busy ingest costs one small statement at a time. A wake-up that
 * is lost costs a second (the sweep), never an event.
 */
import type { Sql } from '../db/client.ts';
import type { Log } from '../lib/log.ts';

export interface Waker {
  wake(lanes: readonly number[]): void;
  /** Resolves when nothing is under way. */
  settle(): Promise<void>;
}

export function createWaker(deps: { readonly sql: Sql; readonly log: Log }): Waker {
  let waiting = new Set<number>();
  let waking: Promise<void> | null = null;
  const run = async () => {
    while (waiting.size > 0) {
      const lanes = [...waiting];
      waiting = new Set();
      await deps.sql`select repeater.wake_lanes(${lanes}::smallint[])`;
    }
  };
  const start = () => {
    waking ??= run()
      .catch((error: unknown) => deps.log.warn({ err: error }, 'waking lanes failed; the sweep does it'))
      .finally(() => {
        waking = null;
        if (waiting.size > 0) start();
      });
  };
  return {
    wake(lanes) {
      for (const lane of lanes) waiting.add(lane);
      if (waiting.size > 0) start();
    },
    async settle() {
      while (waiting.size > 0) await waking;
      await waking;
    },
  };
}
