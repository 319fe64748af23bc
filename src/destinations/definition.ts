/**
 * The contract of a destination type. A destination is one file with one default export,
 * `defineDestination({...})`, and one settings schema of the same slug under schemas/destination/.
 * All it may use is its `ctx`: no fetch, timers, clock, randomness, database or log, so that a replay
 * builds byte for byte the call that was made the first time.
 */
import type { UserKey } from '../lib/ids.ts';

export type EventType = 'identify' | 'track' | 'page' | 'screen' | 'group' | 'alias';

/** A stored event as delivery hands it to a destination. */
export interface DeliverableEvent {
  /** Place in the one total order. */
  readonly position: number;
  readonly messageId: string;
  readonly type: EventType;
  /** Event name of a track call, else null. */
  readonly event: string | null;
  readonly userId: string | null;
  readonly anonymousId: string | null;
  readonly userKey: UserKey;
  /** Time of acceptance, ISO 8601 in UTC with microseconds. */
  readonly receivedAt: string;
  /** Time of the event, corrected for clock skew, ISO 8601 in UTC. */
  readonly timestamp: string;
  /** The event exactly as stored, as JSON text. */
  readonly text: string;
  /** The event as stored, parsed at the first access and kept. */
  readonly payload: Readonly<Record<string, unknown>>;
}

/** What became of one event. `reason` is written for the customer, without secrets. */
export type Outcome =
  | { readonly kind: 'delivered'; readonly status?: number }
  | {
      readonly kind: 'retry';
      readonly reason: string;
      readonly status?: number;
      /** The vendor's Retry-After, in milliseconds: nothing is sent to the same scope before it ends. */
      readonly retryAfterMs?: number;
    }
  | {
      readonly kind: 'rejected';
      readonly reason: string;
      readonly status?: number;
      /** Cut to 64 KB. */
      readonly response?: string;
      /** What it means for the destination as a whole: 401 and 403 pause it, 410 disables it. */
      readonly destination?: 'pause' | 'disable';
    };

export interface DestinationRequest {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  readonly url: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** For the whole exchange, body included; the destination type's limit if absent. */
  readonly timeoutMs?: number;
}

export interface DestinationResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  /** At most 64 KB of the answer. */
  readonly body: string;
}

export interface DestinationContext {
  /** Validated settings with secrets opened and `env:NAME` references resolved. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** Our HTTP client: checked and pinned addresses, no redirects, time-outs. Throws on network errors and time-outs. */
  readonly request: (request: DestinationRequest) => Promise<DestinationResponse>;
  /** Aborts when the worker gives the call up. */
  readonly signal: AbortSignal;
  /** When this attempt started, Unix time in milliseconds. */
  readonly attemptAt: number;
  /** Public id of the replay these events belong to (`rpl_…`), null for live delivery. */
  readonly replayId: string | null;
}

export interface DestinationDefinition {
  /** File name, schema name and `type` in the API. */
  readonly slug: string;
  readonly name: string;
  /** One sentence for the catalogue. */
  readonly description: string;
  /** Vendor pages the facts come from, and the date they were read. */
  readonly docs: readonly { readonly url: string; readonly readAt: string }[];
  readonly accepts: readonly EventType[];
  readonly limits: {
    /** Calls in flight at once, per worker process. */
    readonly concurrency: number;
    readonly timeoutMs: number;
    /** Events per call; 1 where the vendor takes one event a request. */
    readonly batchEvents: number;
  };
  /** What replaying history to this type means; shown before a replay starts. */
  readonly replay: {
    /** Events older than this are refused or moved by the vendor, in hours; null: any age. */
    readonly oldestEventHours: number | null;
    readonly honoursEventTime: boolean;
    /** The vendor's de-duplication field, null when a repeat is counted twice. */
    readonly dedupeKey: string | null;
    /** What a replay may set off (mails, automations), null: nothing known. */
    readonly sideEffects: string | null;
  };
  /**
   * Fills what the customer left out when a destination is created (a signing secret). Runs once.
   * `randomBytes` is the only randomness a destination ever sees.
   */
  readonly complete?: (
    settings: Readonly<Record<string, unknown>>,
    randomBytes: (size: number) => Buffer,
  ) => Record<string, unknown>;
  /** Sends the events in order and says what became of each, in the same order. May throw: the whole batch is then retried. */
  readonly send: (
    events: readonly DeliverableEvent[],
    ctx: DestinationContext,
  ) => Promise<readonly Outcome[]>;
}

/** Marks a destination definition; the identity function, so that the file is checked against the contract. */
export function defineDestination(definition: DestinationDefinition): DestinationDefinition {
  return definition;
}
