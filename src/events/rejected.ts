/** Events refused at the door, kept with the reasons, so that nothing a client sent disappears unseen. */
import type { Sql } from '../db/client.ts';

export interface RejectedEvent {
  readonly sourceId: number;
  readonly code: string;
  /** `[{ field, expected, got? }]` */
  readonly problems: readonly object[];
  readonly type: string | null;
  readonly messageId: string | null;
  readonly userId: string | null;
  readonly anonymousId: string | null;
  readonly text: string;
}

/** Stores refused events and commits. */
export async function keepRejected(sql: Sql, rejected: readonly RejectedEvent[]): Promise<void> {
  const rows = rejected.map((event) => ({
    source_id: event.sourceId,
    code: event.code,
    problems: event.problems,
    type: event.type,
    message_id: event.messageId,
    user_id: event.userId,
    anonymous_id: event.anonymousId,
    payload: event.text,
  }));
  // As one text: a NUL anywhere was replaced before, and the text is cast by Postgres, not by the driver.
  await sql`
    insert into warehouse.rejected_events (source_id, code, problems, type, message_id, user_id, anonymous_id, payload)
    select source_id, code, problems, type, message_id, user_id, anonymous_id, payload
    from json_to_recordset(${JSON.stringify(rows)}::text::json)
      as r (source_id integer, code text, problems jsonb, type text, message_id text, user_id text, anonymous_id text, payload text)`;
}
