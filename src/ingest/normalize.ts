/**
 * From what a client sent to what is stored. The event itself is kept as it came; added are only `type` and
 * `messageId` where absent and the batch's `context` and `integrations`; taken away is only the write key.
 * Everything else (ids as text, the four times, user key, lane) goes beside it into columns.
 */
import { randomUUID } from 'node:crypto';
import type { AcceptedEvent, EventType } from '../events/append.ts';
import type { ErrorCode } from '../lib/errors.ts';
import { laneOf, userKeyOf } from '../lib/ids.ts';
import { findUnstorableNumber, replaceBadText, type ParsedJson } from '../lib/json.ts';
import type { EventValidator } from '../validation/catalogue.ts';
import type { Problem } from '../validation/compile.ts';
import { addressToAdd, type Client, unknownClient } from './client.ts';
import { maxEventBytes, maxMessageIdBytes } from './limits.ts';
import { oversizedPart } from './sizes.ts';
import { eventTime, parseInstant } from './timestamps.ts';

/** What holds for all events of a request. */
export interface RequestFacts {
  readonly sourceId: number;
  /** From the batch; an event's own wins. */
  readonly sentAt: number | null;
  readonly context: unknown;
  readonly integrations: unknown;
  /** The two above held characters that were replaced. */
  readonly replaced: boolean;
  readonly mayHoldBadText: boolean;
  readonly mayHoldBadNumbers: boolean;
  readonly client: Client;
}

/** Reads what holds for all events from a batch's body; `{}` for a single call. */
export function factsOf(
  sourceId: number,
  body: Fields,
  parsed: ParsedJson,
  client: Client = unknownClient,
): RequestFacts {
  const { mayHoldBadText, mayHoldBadNumbers } = parsed;
  const sent = { context: body['context'], integrations: body['integrations'] };
  const shared = mayHoldBadText ? replaceBadText(sent) : sent;
  return {
    sourceId,
    sentAt: typeof body['sentAt'] === 'string' ? parseInstant(body['sentAt']) : null,
    ...shared,
    replaced: shared !== sent,
    mayHoldBadText,
    mayHoldBadNumbers,
    client,
  };
}

/** Why an event was not accepted. */
export interface Refusal {
  readonly code: ErrorCode;
  readonly problems: readonly Problem[];
  /** As much of the event as can be kept, for rejected_events. */
  readonly text: string;
  readonly type: string | null;
  readonly messageId: string | null;
  readonly userId: string | null;
  readonly anonymousId: string | null;
}

export type Normalized = { readonly event: AcceptedEvent } | { readonly refusal: Refusal };

type Fields = Record<string, unknown>;

/** Checks one event and makes it ready to be stored. `type` is given by the path of a single call, null in a batch. */
export function normalize(
  raw: unknown,
  type: string | null,
  facts: RequestFacts,
  validate: EventValidator,
): Normalized {
  let event = raw;
  const marks: string[] = [];
  if (facts.mayHoldBadText) {
    event = replaceBadText(raw);
    if (event !== raw || facts.replaced) marks.push('replaced_characters');
  }
  if (!isObject(event)) return refuse('invalid_event', event, [{ field: '', expected: 'to be an object' }]);
  const call = type ?? event['type'];
  if (facts.mayHoldBadNumbers) {
    const number = findUnstorableNumber(addShared({ ...event }, facts));
    if (number) {
      const problem = {
        field: number.field,
        expected: 'to be a number that can be stored as it was sent',
        got: number.source.slice(0, 40),
      };
      return refuse('number_out_of_range', event, [problem]);
    }
  }
  const problems = typeof call === 'string' ? validate(call, checkable(event, facts)) : null;
  if (problems === null) {
    return refuse('invalid_event', event, [
      { field: 'type', expected: 'to be identify, track, page, screen, group or alias' },
    ]);
  }
  if (problems.length > 0) return refuse('invalid_event', event, problems.map(nameField));
  return accept(event, call as EventType, facts, marks);
}

function accept(event: Fields, type: EventType, facts: RequestFacts, marks: string[]): Normalized {
  const times = readTimes(event, facts.sentAt);
  if ('field' in times) return refuse('invalid_event', event, [times]);
  const messageId = idOf(event['messageId']) ?? randomUUID();
  if (Buffer.byteLength(messageId) > maxMessageIdBytes) {
    return refuse('invalid_event', event, [
      { field: 'messageId', expected: `to be at most ${maxMessageIdBytes} bytes` },
    ]);
  }
  const text = JSON.stringify(storedForm(event, type, messageId, facts));
  const oversized = oversizedPart(event, text);
  if (oversized) return refuse('event_too_large', event, [oversized]);
  const userId = idOf(event['userId']);
  const anonymousId = idOf(event['anonymousId']);
  const userKey = userKeyOf(userId, anonymousId);
  return {
    event: {
      sourceId: facts.sourceId,
      lane: laneOf(userKey),
      type,
      event: type === 'track' ? (event['event'] as string) : null,
      userId,
      anonymousId,
      previousId: type === 'alias' ? idOf(event['previousId']) : null,
      userKey,
      messageId,
      ...times,
      marks: marks.length > 0 ? marks : null,
      text,
    },
  };
}

/** The event as it will be kept. The common case, a complete event of a batch without a context, is the object itself. */
function storedForm(event: Fields, type: EventType, messageId: string, facts: RequestFacts): Fields {
  const shared = isObject(facts.context) ? facts.context : null;
  const ip = addressToAdd(event, shared, facts.client);
  const complete = event['type'] === type && event['messageId'] === messageId && !('writeKey' in event);
  if (complete && ip === null && shared === null && !isObject(facts.integrations)) return event;
  // Spreading defines own properties, so that a key `__proto__` stays data.
  const { writeKey: _writeKey, ...stored }: Fields = { ...event, type, messageId };
  addShared(stored, facts);
  if (ip !== null) stored['context'] = { ...(isObject(stored['context']) ? stored['context'] : {}), ip };
  return stored;
}

/** Puts the batch's context and integrations into the event given, which is changed. */
function addShared(event: Fields, { context, integrations }: RequestFacts): Fields {
  if (isObject(context)) event['context'] = mergeInto(context, event['context']);
  if (isObject(integrations)) event['integrations'] = mergeInto(integrations, event['integrations']);
  return event;
}

/** The batch's fields under the event's own. */
function mergeInto(batch: Fields, own: unknown): Fields {
  return isObject(own) ? { ...batch, ...own } : batch;
}

type Times = Pick<AcceptedEvent, 'time' | 'offsetMs' | 'originalTime' | 'sentTime'>;

function readTimes(event: Fields, batchSentAt: number | null): Times | Problem {
  const timestamp = readTime(event, 'timestamp');
  const original = readTime(event, 'originalTimestamp');
  const ownSent = readTime(event, 'sentAt');
  for (const time of [timestamp, original, ownSent])
    if (typeof time === 'object' && time !== null) return time;
  const sent = ownSent ?? batchSentAt;
  const sentTime = isoOf(sent as number | null);
  const originalTime =
    original === null
      ? isoOf(timestamp as number | null, event['timestamp'])
      : isoOf(original as number, event['originalTimestamp']);
  // RudderStack's Node SDK sends both when the caller gave a time; that one is meant, and rudder-server takes it so too.
  if (timestamp !== null && original !== null)
    return { time: isoOf(timestamp as number), offsetMs: null, originalTime, sentTime };
  const time = eventTime((timestamp ?? original) as number | null, sent as number | null);
  return time.kind === 'fixed'
    ? { time: isoOf(time.at), offsetMs: null, originalTime, sentTime }
    : { time: null, offsetMs: time.offsetMs, originalTime, sentTime };
}

function readTime(event: Fields, field: string): number | null | Problem {
  const value = event[field];
  if (typeof value !== 'string' || value === '') return null;
  return (
    parseInstant(value) ?? {
      field,
      expected: 'to be a time in ISO 8601, such as 2026-01-31T09:15:00.000Z',
      got: value.slice(0, 64),
    }
  );
}

/** A time as ISO 8601 in UTC. Most are sent so already, and all events of a batch were sent at the same time. */
function isoOf(at: number | null, sent?: unknown): string | null {
  if (at === null) return null;
  if (
    typeof sent === 'string' &&
    sent.length === 24 &&
    sent[10] === 'T' &&
    sent[19] === '.' &&
    sent[23] === 'Z'
  )
    return sent;
  if (at !== lastTime.at) lastTime = { at, iso: new Date(at).toISOString() };
  return lastTime.iso;
}

let lastTime = { at: 0, iso: new Date(0).toISOString() };

/** An id as text; null when it is absent, null or empty. Integers above 2^53 arrive as raw JSON. */
function idOf(value: unknown): string | null {
  if (typeof value === 'string') return value === '' ? null : value;
  if (typeof value === 'number') return String(value);
  return JSON.isRawJSON(value) ? JSON.stringify(value) : null;
}

const ids = ['userId', 'anonymousId', 'groupId', 'previousId', 'messageId'];

/** The event as the schemas see it: an id that was kept as raw JSON is a number there. */
function checkable(event: Fields, facts: RequestFacts): Fields {
  if (!facts.mayHoldBadNumbers || !ids.some((id) => JSON.isRawJSON(event[id]))) return event;
  return Object.fromEntries(
    Object.entries(event).map(([key, value]) => [key, JSON.isRawJSON(value) ? 1 : value]),
  );
}

/** "The event as a whole" is a poor name for the field that is missing. */
function nameField(problem: Problem): Problem {
  return problem.field === '' && problem.expected.includes('userId')
    ? { ...problem, field: 'userId', expected: 'a userId or an anonymousId to be present', got: 'neither' }
    : problem;
}

function refuse(code: ErrorCode, raw: unknown, problems: readonly Problem[]): Normalized {
  const event = isObject(raw) ? raw : {};
  const short = (value: unknown) => idOf(value)?.slice(0, 512) ?? null;
  return {
    refusal: {
      code,
      problems,
      text: keptText(raw),
      type: typeof event['type'] === 'string' ? event['type'].slice(0, 64) : null,
      messageId: short(event['messageId']),
      userId: short(event['userId']),
      anonymousId: short(event['anonymousId']),
    },
  };
}

/** What was refused, as JSON text that Postgres takes, cut at four times an event's size. */
export function keptText(raw: unknown): string {
  const text = JSON.stringify(replaceBadText(raw)) ?? 'null';
  return text.slice(0, 4 * maxEventBytes).toWellFormed();
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !JSON.isRawJSON(value);
}
