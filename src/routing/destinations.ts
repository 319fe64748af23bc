/**
 * A destination as delivery needs it: settings whole, secrets opened and `env:NAME` references resolved.
 * What comes from here is secret: it must never reach a log, a job or an answer.
 */
import type { Sql, Transaction } from '../db/client.ts';

/** What differs from the destination type's own limits and from the program's defaults. */
export interface DestinationPolicy {
  readonly retry?: {
    /** Delay after the first failure. */
    readonly initialMs?: number;
    readonly maxMs?: number;
    /** How long an event is tried before it is given up. */
    readonly spanMs?: number;
    /** It is not given up before this many attempts, however long they took. */
    readonly minAttempts?: number;
  };
  /** After an event was refused for good: go on with the user's next one, or stand until someone decides. */
  readonly onPermanentFailure?: 'skip' | 'block';
  readonly concurrency?: number;
  readonly timeoutMs?: number;
}

export interface LoadedDestination {
  readonly id: number;
  readonly type: string;
  readonly name: string;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly policy: DestinationPolicy;
  readonly enabled: boolean;
  readonly pausedReason: string | null;
  /** Counts changes; load again when it moved. */
  readonly version: number;
  /** ISO 8601. */
  readonly deletedAt: string | null;
}

/** Opens a stored secret; see config/secrets.ts `createSecretReader`. */
export type ReadSecret = (stored: string, context: string) => string;

/** The place a secret is bound to when it is sealed. */
export function secretContext(destinationId: number, field: string): string {
  return `destination:${destinationId}:${field}`;
}

/**
 * Loads a destination, deleted ones included; null when there never was one.
 * @throws SealError when a secret does not open or its variable is not set: nothing may be sent then.
 */
export async function loadDestination(
  sql: Sql | Transaction,
  id: number,
  readSecret: ReadSecret,
): Promise<LoadedDestination | null> {
  const [row] = await sql<(LoadedDestination & { secrets: Record<string, string> })[]>`
    select id, type, name, settings, secrets, policy, enabled, paused_reason as "pausedReason", version,
      deleted_at as "deletedAt"
    from repeater.destinations where id = ${id}`;
  if (!row) return null;
  const { secrets, ...destination } = row;
  return { ...destination, settings: { ...destination.settings, ...openSecrets(id, secrets, readSecret) } };
}

/** The values of a destination's stored secrets. @throws SealError */
export function openSecrets(
  destinationId: number,
  secrets: Readonly<Record<string, string>>,
  readSecret: ReadSecret,
): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(secrets).map(([field, stored]) => {
      const text = readSecret(stored, secretContext(destinationId, field));
      // A sealed value is JSON, since a setting need not be a text; what a reference names is the text itself.
      return [field, stored.startsWith('env:') ? text : (JSON.parse(text) as unknown)];
    }),
  );
}
