/**
 * Events per second and write key, as a bucket of tokens in memory: each process counts for itself. A batch
 * is taken whole while anything is left, and what it took too much is paid back before the next one: no batch
 * is too long for a low limit.
 */
import { AppError } from '../lib/errors.ts';

export interface RateLimit {
  /** @throws AppError rate_limited when this key must wait; asked before a body is read. */
  check(key: string): void;
  /** Takes the events off the key's bucket. @throws AppError rate_limited */
  take(key: string, events: number): void;
}

interface Bucket {
  /** Events that may still be sent; below one the key waits. */
  level: number;
  at: number;
}

/** A bucket holds what one second gives. */
export function createRateLimit(
  eventsPerSecond: number,
  now: () => number = () => performance.now(),
): RateLimit {
  const buckets = new Map<string, Bucket>();
  const fill = (bucket: Bucket) => {
    const at = now();
    bucket.level = Math.min(eventsPerSecond, bucket.level + ((at - bucket.at) / 1_000) * eventsPerSecond);
    bucket.at = at;
    if (bucket.level >= 1) return;
    throw new AppError('rate_limited', {
      message: `This write key may send ${eventsPerSecond} events a second.`,
      retryAfterSeconds: Math.max(1, Math.ceil((1 - bucket.level) / eventsPerSecond)),
    });
  };
  return {
    check(key) {
      const bucket = buckets.get(key);
      if (bucket) fill(bucket);
    },
    take(key, events) {
      let bucket = buckets.get(key);
      if (!bucket) buckets.set(key, (bucket = { level: eventsPerSecond, at: now() }));
      fill(bucket);
      bucket.level -= events;
    },
  };
}
