/** /admin/events: a page, an export, a live stream. */
import { Hono } from 'hono';
import type { Sql } from '../db/client.ts';
import type { Selection } from '../routing/selection.ts';
import * as answers from './answers.ts';
import { describe } from './describe.ts';
import { exportEvents, pageEvents, selectionOf } from './events.ts';
import * as input from './input.ts';
import { validQuery } from './validated.ts';

const tag = 'Events';

export interface EventDeps {
  readonly sql: Sql;
  /** Answers with new events as they are accepted: debugger/server-sent-events.ts. */
  readonly streamEvents: (request: {
    readonly selection: Selection;
    readonly after: number | null;
    readonly signal: AbortSignal;
  }) => Response;
}

export function eventRoutes({ sql, streamEvents }: EventDeps) {
  return new Hono()
    .get(
      '/',
      describe({
        tag,
        summary: 'List events, the newest first',
        answer: answers.listOf(answers.storedEvent),
      }),
      validQuery(input.eventPage, input.eventFilterLists),
      async (c) => c.json(await pageEvents(sql, c.req.valid('query'))),
    )
    .get(
      '/export',
      describe({
        tag,
        summary: 'Export events as lines of JSON',
        description:
          'In position order, everything stored at this moment. `from` and `to` are times of acceptance.',
        media: 'application/x-ndjson',
      }),
      validQuery(input.eventExport, input.eventFilterLists),
      async (c) => {
        const { format: _, ...filter } = c.req.valid('query');
        return c.body(await exportEvents(sql, filter), 200, {
          'content-type': 'application/x-ndjson; charset=utf-8',
        });
      },
    )
    .get(
      '/stream',
      describe({
        tag,
        summary: 'Follow events as they are accepted',
        description: 'Server-sent events; the id of each is its position. Resumes after `Last-Event-ID`.',
        media: 'text/event-stream',
        errors: ['rate_limited'],
      }),
      validQuery(input.eventStream, input.eventStreamLists),
      async (c) => {
        const { source, type, event, userId, after } = c.req.valid('query');
        const selection = await selectionOf(sql, {
          ...(source && { sources: source }),
          ...(type && { types: type }),
          ...(event && { events: event }),
          ...(userId && { userIds: userId }),
        });
        // The browser's own header wins: its address still says where the first connection started.
        const lastId = c.req.header('last-event-id') ?? '';
        const resumeAfter = /^\d{1,15}$/.test(lastId) ? Number(lastId) : (after ?? null);
        return streamEvents({ selection, after: resumeAfter, signal: c.req.raw.signal });
      },
    );
}
