/** Destinations that end inside the process: what is left is the cost of delivering itself. */
import {
  type DestinationDefinition,
  defineDestination,
  type Outcome,
} from '../../src/destinations/definition.ts';

const delivered: readonly Outcome[] = [{ kind: 'delivered' }];
const failed: readonly Outcome[] = [{ kind: 'retry', reason: 'This user always fails.' }];

/** Parses the event, as any destination must, and does nothing with it. */
export function take(event: { readonly payload: object }): Promise<readonly Outcome[]> {
  if (!('type' in event.payload)) throw new Error('an event without a type');
  return Promise.resolve(delivered);
}

/** One user of a hundred fails for ever. */
export function isFailing(userKey: string): boolean {
  return userKey.endsWith('77');
}

function define(
  slug: string,
  concurrency: number,
  send: DestinationDefinition['send'],
): { definition: DestinationDefinition; settingsSchema: Record<string, unknown> } {
  return {
    definition: defineDestination({
      slug,
      name: slug,
      description: 'Takes part in the benchmark.',
      docs: [],
      accepts: ['identify', 'track', 'page', 'screen', 'group', 'alias'],
      limits: { concurrency, timeoutMs: 15_000, batchEvents: 1 },
      replay: { oldestEventHours: null, honoursEventTime: true, dedupeKey: 'id', sideEffects: null },
      send,
    }),
    settingsSchema: { type: 'object' },
  };
}

let calls = 0;

export const benchTypes = [
  define('bench-noop', 256, (events) => take(events[0] as never)),
  define('bench-failing', 256, (events) =>
    isFailing(events[0]?.userKey ?? '') ? Promise.resolve(failed) : take(events[0] as never),
  ),
  define('bench-slow', 1_024, async (events) => {
    const delayMs = ++calls % 100 === 0 ? 1_000 : 5;
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    return take(events[0] as never);
  }),
];
