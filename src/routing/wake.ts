/**
 * Wakes the sleeping lanes of freshly stored events, after their commit: at once when it has been quiet, else
 * gathered, since on a busy log the lanes are awake already and a wake-up for each group of events was a tenth of
 * the whole cost of storing it. A wake-up that is lost costs a second (the sweep), never an event.
 */
import type { Sql } from '../db/client.ts';
import type { Log } from '../lib/log.ts';

const everyMs = 20;

export interface Waker {
  wake(lanes: readonly number[]): void;
  /** Resolves when nothing is under way or waiting. */
  settle(): Promise<void>;
}

export function createWaker(deps: { readonly sql: Sql; readonly log: Log }): Waker {
  let waiting = new Set<number>();
  let waking: Promise<void> | null = null;
  let wokenAt = -Infinity;
  const run = async () => {
    while (waiting.size > 0) {
      const earlyMs = wokenAt + everyMs - performance.now();
      if (earlyMs > 0) await new Promise((resolve) => setTimeout(resolve, earlyMs));
      const lanes = [...waiting];
      waiting = new Set();
      wokenAt = performance.now();
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
      for (let current = waking; current !== null; current = waking) await current;
    },
  };
}
