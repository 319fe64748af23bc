/**
 * Stored events on their way out: a page of them, or any range as a stream of lines. The stream is read
 * page by page as the receiver takes it: no transaction is held open, and a log of any length passes through
 * the same few hundred kilobytes.
 */
import type { Sql } from '../db/client.ts';
import { newestPosition, type Range, readPages, readRange } from '../events/read-range.ts';
import type { StoredEvent } from '../events/stored-event.ts';
import { publicId } from '../lib/ids.ts';
import { canonicalInstant, type Selection, selectionCondition } from '../routing/selection.ts';
import { nextCursor, parseCursor } from './cursor.ts';
import type { EventFilter, EventPage } from './input.ts';
import { resolveSources } from './sources.ts';
import { invalidRequest } from './validated.ts';

export interface PresentedEvent {
  readonly position: number;
  readonly sourceId: string;
  readonly messageId: string;
  readonly type: string;
  /** Name of a track event. */
  readonly name: string | null;
  readonly userId: string | null;
  readonly anonymousId: string | null;
  readonly receivedAt: string;
  readonly timestamp: string;
  readonly event: Readonly<Record<string, unknown>>;
}

/** An event as lists show it. */
export function presentEvent(event: StoredEvent): PresentedEvent {
  return { ...facts(event), event: event.payload };
}

/** The same as one line of JSON, the stored text passed on unparsed. */
export function eventLine(event: StoredEvent): string {
  return `${JSON.stringify(facts(event)).slice(0, -1)},"event":${event.text}}`;
}

function facts(event: StoredEvent): Omit<PresentedEvent, 'event'> {
  const { position, sourceId, messageId, type, userId, anonymousId, receivedAt, timestamp } = event;
  const name = event.event;
  return {
    position,
    sourceId: publicId('src', sourceId),
    messageId,
    type,
    name,
    userId,
    anonymousId,
    receivedAt,
    timestamp,
  };
}

/** The selection that a filter of the API means; `prefix` stands before field names in errors. @throws AppError invalid_request */
export async function selectionOf(sql: Sql, filter: EventFilter, prefix = ''): Promise<Selection> {
  const { from, to, sources, ...rest } = filter;
  const bounds = {
    ...(from === undefined ? {} : { from: canonicalInstant(from) ?? from }),
    ...(to === undefined ? {} : { to: canonicalInstant(to) ?? to }),
  };
  if (bounds.from !== undefined && bounds.to !== undefined && bounds.from >= bounds.to) {
    throw invalidRequest([{ field: `${prefix}to`, expected: `a time after ${prefix}from`, got: bounds.to }]);
  }
  const { fromPosition = 0, toPosition = Infinity } = rest;
  if (fromPosition > toPosition) {
    throw invalidRequest([
      { field: `${prefix}toPosition`, expected: `${prefix}fromPosition or more`, got: String(toPosition) },
    ]);
  }
  const ids = sources && (await resolveSources(sql, `${prefix}sources`, sources));
  return { ...rest, ...bounds, ...(ids && { sources: ids }) };
}

/** A page of events, the newest first. @throws AppError invalid_request */
export async function pageEvents(
  sql: Sql,
  page: EventPage,
): Promise<{ data: PresentedEvent[]; next: string | null }> {
  const { after = 0, before = Infinity, cursor, limit, ...filter } = page;
  const [below = Infinity] = parseCursor(cursor, ['number']) ?? [];
  const range = await rangeOf(sql, await selectionOf(sql, filter));
  const events = await readRange(sql, {
    ...range,
    after: Math.max(range.after, after),
    upTo: Math.min(range.upTo, before - 1, Number(below) - 1),
    limit: limit + 1,
    order: 'descending',
  });
  return {
    data: events.slice(0, limit).map(presentEvent),
    next: nextCursor(events, limit, (event) => [event.position]),
  };
}

const pageLength = 500;

/**
 * Every event selected that is stored at this moment, one JSON object a line, in position order. A failure
 * while it runs breaks the connection off: a stream that ends well is whole.
 * @throws AppError invalid_request before the first line
 */
export async function exportEvents(sql: Sql, filter: EventFilter): Promise<ReadableStream<Uint8Array>> {
  const range = await rangeOf(sql, await selectionOf(sql, filter));
  const pages = readPages(sql, { ...range, limit: pageLength });
  const encoder = new TextEncoder();
  return new ReadableStream({
    async pull(controller) {
      const { value: page, done } = await pages.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(page.map((event) => `${eventLine(event)}\n`).join('')));
    },
    async cancel() {
      await pages.return(undefined);
    },
  });
}

async function rangeOf(sql: Sql, selection: Selection): Promise<Omit<Range, 'limit' | 'order'>> {
  const { fromPosition = 1, toPosition = Infinity } = selection;
  return {
    after: fromPosition - 1,
    upTo: Math.min(toPosition, await newestPosition(sql)),
    condition: selectionCondition(sql, selection),
    indexed: selection.userIds !== undefined,
  };
}
