/**
 * Write key -> source. All keys are kept in memory and read anew every few seconds, so that a revoked key
 * stops within that time; an unknown key is looked up at once, but not more often than the limit below.
 */
import type { Sql } from '../db/client.ts';
import { AppError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';

const refreshMs = 5_000;
const lookUpAtMostEveryMs = 200;

interface KeyRow {
  key: string;
  sourceId: number;
}

export interface WriteKeys {
  /**
   * The id of the key's source; null for an unknown, expired or disabled one.
   * @throws AppError storage_unavailable when the key is not known yet and the database does not answer.
   */
  sourceOf(key: string): Promise<number | null>;
  stop(): void;
}

/** @throws when the keys cannot be read the first time. */
export async function createWriteKeys(deps: { readonly sql: Sql; readonly log: Log }): Promise<WriteKeys> {
  let keys = new Map<string, number>();
  let reading: Promise<void> | null = null;
  let readAt = 0;
  const read = () =>
    (reading ??= deps.sql<KeyRow[]>`
      select k.key, k.source_id as "sourceId" from repeater.write_keys k join repeater.sources s on s.id = k.source_id
      where s.enabled and (k.expires_at is null or k.expires_at > clock_timestamp())`
      .then((rows) => {
        keys = new Map(rows.map((row) => [row.key, row.sourceId]));
        readAt = performance.now();
      })
      .finally(() => (reading = null)));
  await read();
  const timer = setInterval(() => {
    read().catch((error: unknown) =>
      deps.log.warn({ err: error }, 'reading write keys failed; the known ones hold'),
    );
  }, refreshMs);
  timer.unref();
  return {
    async sourceOf(key) {
      const known = keys.get(key);
      if (known !== undefined) return known;
      if (performance.now() - readAt > lookUpAtMostEveryMs) {
        await read().catch((cause: unknown) => {
          throw new AppError('storage_unavailable', { retryAfterSeconds: 1, cause });
        });
      }
      return keys.get(key) ?? null;
    },
    stop: () => clearInterval(timer),
  };
}
