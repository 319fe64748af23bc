/** Events for tests: ready to be stored, and as clients send them. */
import { randomUUID } from 'node:crypto';
import type { AcceptedEvent } from '../../src/events/append.ts';
import { laneOf, userKeyOf } from '../../src/lib/ids.ts';

/** An accepted track event of a user; fields may be replaced. */
export function acceptedEvent(userId: string, fields: Partial<AcceptedEvent> = {}): AcceptedEvent {
  const userKey = userKeyOf(userId, null);
  const messageId = fields.messageId ?? randomUUID();
  return {
    sourceId: 1,
    lane: laneOf(userKey),
    type: 'track',
    event: 'Order Completed',
    userId,
    anonymousId: null,
    userKey,
    messageId,
    time: null,
    offsetMs: 0,
    originalTime: null,
    sentTime: null,
    marks: null,
    text: JSON.stringify({ type: 'track', event: 'Order Completed', userId, messageId }),
    ...fields,
  };
}
