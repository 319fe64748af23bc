/** A stored event as it is read back: text as Postgres keeps it, parsed only if somebody looks inside. */
import type { UserKey } from '../lib/ids.ts';
import type { EventType } from './append.ts';

/** The columns a reader asks for, in this order; see `storedColumns`. */
export type StoredRow = readonly [
  position: number,
  lane: number,
  messageId: string,
  type: EventType,
  event: string | null,
  userId: string | null,
  anonymousId: string | null,
  userKey: UserKey,
  receivedAt: string,
  timestamp: string,
  sourceId: number,
  text: string,
  barriers: string | null,
];

/** Whose events, up to which position, must have ended before an event is sent. */
export type Barrier = readonly [userKey: UserKey, position: number];

/** Select list that matches StoredRow, for a table or alias `e`. */
export const storedColumns =
  'e.id, e.lane, e.message_id, e.type, e.event, e.user_id, e.anonymous_id, e.user_key, e.received_at, e."timestamp", e.source_id, e.payload::text, e.barriers::text';

export class StoredEvent {
  readonly position: number;
  readonly lane: number;
  readonly messageId: string;
  readonly type: EventType;
  readonly event: string | null;
  readonly userId: string | null;
  readonly anonymousId: string | null;
  readonly userKey: UserKey;
  readonly receivedAt: string;
  readonly timestamp: string;
  readonly sourceId: number;
  readonly text: string;
  /** Null for nearly all; see repeater.resolve_identities. */
  readonly barriers: readonly Barrier[] | null;
  #payload: Readonly<Record<string, unknown>> | undefined;

  constructor(row: StoredRow) {
    this.position = row[0];
    this.lane = row[1];
    this.messageId = row[2];
    this.type = row[3];
    this.event = row[4];
    this.userId = row[5];
    this.anonymousId = row[6];
    this.userKey = row[7];
    this.receivedAt = row[8];
    this.timestamp = row[9];
    this.sourceId = row[10];
    this.text = row[11];
    this.barriers = row[12] === null ? null : (JSON.parse(row[12]) as Barrier[]);
  }

  get payload(): Readonly<Record<string, unknown>> {
    return (this.#payload ??= JSON.parse(this.text) as Record<string, unknown>);
  }
}
