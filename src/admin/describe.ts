/** How a route appears in the OpenAPI document: what it is for, what it answers, how it can fail. */
import { describeRoute, resolver } from 'hono-openapi';
import type { MiddlewareHandler } from 'hono';
import type * as v from 'valibot';
import { errorCatalogue, type ErrorCode } from '../lib/errors.ts';
import { failure } from './answers.ts';
import { schemaOptions } from './validated.ts';

export interface RouteDescription {
  readonly tag: 'Sources' | 'Destinations' | 'Replays' | 'Deliveries' | 'Events' | 'SQL' | 'Server';
  readonly summary: string;
  readonly description?: string;
  /** Status of success, 200 if absent. */
  readonly status?: 200 | 201 | 204;
  /** Shape of a JSON answer; without it the answer is empty or of `media`. */
  readonly answer?: v.GenericSchema;
  readonly media?: string;
  /** Errors besides those that every route can answer. */
  readonly errors?: readonly ErrorCode[];
}

/** Describes a route; stands first among its handlers. */
export function describe(route: RouteDescription): MiddlewareHandler {
  const { tag, summary, description, status = 200, answer, media, errors = [] } = route;
  const content = answer
    ? { 'application/json': { schema: resolver(answer, schemaOptions) } }
    : media
      ? { [media]: { schema: { type: 'string' as const } } }
      : undefined;
  return describeRoute({
    tags: [tag],
    summary,
    ...(description === undefined ? {} : { description }),
    responses: {
      [status]: { description: 'Success', ...(content === undefined ? {} : { content }) },
      ...failures(['unauthorized', 'invalid_request', ...errors]),
    },
  });
}

/** One entry per status, its text naming the codes. */
function failures(codes: readonly ErrorCode[]) {
  const byStatus = Map.groupBy(codes, (code) => errorCatalogue[code][0]);
  const entries = [...byStatus].map(([status, ofStatus]) => [
    status,
    {
      description: ofStatus.map((code) => `\`${code}\`: ${errorCatalogue[code][1]}`).join(' '),
      content: { 'application/json': { schema: resolver(failure, schemaOptions) } },
    },
  ]);
  return Object.fromEntries(entries) as Record<string, { description: string }>;
}
