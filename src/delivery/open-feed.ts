/** What a worker must know of a feed and its destination to send; loaded when it takes the first lane. */
import type { Fragment, Sql } from '../db/client.ts';
import { loadDestination, type ReadSecret } from '../routing/destinations.ts';
import { selectionCondition, type Selection } from '../routing/selection.ts';
import type { Catalogue } from '../destinations/catalogue.ts';
import { publicId } from '../lib/ids.ts';
import { defaultRetryPolicy, type RetryPolicy } from './backoff.ts';
import type { OutletSettings } from './dispatcher.ts';
import { secretsOf } from './redact.ts';

export interface OpenFeed {
  readonly id: number;
  readonly destinationId: number;
  readonly kind: 'live' | 'replay';
  /** Public id of the replay, null for live. */
  readonly replayId: string | null;
  readonly listed: boolean;
  readonly toPosition: number | null;
  readonly condition: ((sql: Sql) => Fragment) | null;
  readonly ratePerSecond: number | null;
  /** Event types the destination takes. */
  readonly accepts: ReadonlySet<string>;
  /** By which an event may ask for the destination or refuse it: its own name, then those of its type. */
  readonly names: readonly string[];
  readonly retryPolicy: RetryPolicy;
  /** A permanent failure parks the user until someone decides, instead of becoming a dead letter. */
  readonly blocksOnRejection: boolean;
  readonly outlet: OutletSettings;
  /** Of the destination's settings; they are loaded again when it has moved. */
  readonly version: number;
}

interface FeedRow {
  destinationId: number;
  kind: 'live' | 'replay';
  selection: Selection | null;
  listed: boolean;
  toPosition: number | null;
  ratePerSecond: number | null;
}

/**
 * Loads a feed; null when it or its destination is gone.
 * @throws when the destination's secrets cannot be opened or its type is unknown here.
 */
export async function loadFeed(
  sql: Sql,
  feedId: number,
  deps: { readonly catalogue: Catalogue; readonly readSecret: ReadSecret },
): Promise<OpenFeed | null> {
  const [feed] = await sql<FeedRow[]>`
    select destination_id as "destinationId", kind, selection, listed, to_position as "toPosition",
      rate_per_second as "ratePerSecond"
    from repeater.feeds where id = ${feedId}::integer`;
  if (!feed) return null;
  const destination = await loadDestination(sql, feed.destinationId, deps.readSecret);
  if (!destination || destination.deletedAt !== null) return null;
  const type = deps.catalogue.get(destination.type);
  if (!type) throw new Error(`Destination ${destination.id} has the unknown type ${destination.type}.`);
  const { definition } = type;
  const { selection } = feed;
  return {
    id: feedId,
    destinationId: feed.destinationId,
    kind: feed.kind,
    replayId: feed.kind === 'replay' ? publicId('rpl', feedId) : null,
    listed: feed.listed,
    toPosition: feed.toPosition,
    // A listed feed was selected when it was made.
    condition: selection === null || feed.listed ? null : (client) => selectionCondition(client, selection),
    ratePerSecond: feed.ratePerSecond,
    accepts: new Set(definition.accepts),
    names: [destination.name, definition.name, definition.slug],
    retryPolicy: { ...defaultRetryPolicy, ...destination.policy.retry },
    blocksOnRejection: destination.policy.onPermanentFailure === 'block',
    outlet: {
      definition,
      settings: destination.settings,
      concurrency: destination.policy.concurrency ?? definition.limits.concurrency,
      ...(destination.policy.timeoutMs !== undefined && { timeoutMs: destination.policy.timeoutMs }),
      secrets: secretsOf(type, destination.settings),
    },
    version: destination.version,
  };
}
