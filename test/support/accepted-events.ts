/** Accepted events for tests of what comes after the door; appended by the real insert. */
import { appendEvents, type AcceptedEvent, type EventType } from '../../src/events/append.ts';
import type { Sql } from '../../src/db/client.ts';
import { laneOf, userKeyOf } from '../../src/lib/ids.ts';

let made = 0;

export interface EventParts {
  sourceId?: number;
  type?: EventType;
  event?: string | null;
  userId?: string | null;
  anonymousId?: string | null;
  messageId?: string;
  time?: string | null;
  properties?: Record<string, unknown>;
}

/** An accepted event; a track call named `Tested` of user `u1` unless said otherwise. */
export function acceptedEvent(parts: EventParts = {}): AcceptedEvent {
  const {
    sourceId = 1,
    type = 'track',
    userId = 'u1',
    anonymousId = null,
    properties = {},
    time = null,
  } = parts;
  const event = parts.event === undefined ? (type === 'track' ? 'Tested' : null) : parts.event;
  const messageId = parts.messageId ?? `message-${process.pid}-${made++}`;
  const userKey = userKeyOf(userId, anonymousId);
  return {
    sourceId,
    lane: laneOf(userKey),
    type,
    event,
    userId,
    anonymousId,
    userKey,
    messageId,
    time,
    offsetMs: null,
    originalTime: null,
    sentTime: null,
    marks: null,
    text: JSON.stringify({ type, event, userId, anonymousId, messageId, properties }),
  };
}

/** Appends in the given order, in groups as ingest does; returns the newest position. */
export async function append(sql: Sql, events: readonly AcceptedEvent[], groupSize = 1000): Promise<number> {
  let last = 0;
  for (let start = 0; start < events.length; start += groupSize) {
    const { lastPosition } = await appendEvents(sql, events.slice(start, start + groupSize), 48);
    last = lastPosition ?? last;
  }
  return last;
}
