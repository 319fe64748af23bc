/**
 * The shapes that the admin API accepts. They validate each request and are the source of the OpenAPI
 * document, so nothing is accepted that is not documented. Objects are strict: an unknown field is refused
 * by name, which is also what keeps `id` or `createdAt` from being assigned.
 */
import * as v from 'valibot';
import { canonicalInstant } from '../routing/selection.ts';

/** Largest page of any list. */
export const longestPage = 1000;

const eventTypes = ['identify', 'track', 'page', 'screen', 'group', 'alias'] as const;

const name = v.pipe(
  v.string(),
  v.minLength(1, 'a name of 1 to 200 characters'),
  v.maxLength(200, 'a name of 1 to 200 characters'),
  // oxlint-disable-next-line no-control-regex
  v.regex(/^[^\u0000-\u001f\u007f]*$/, 'a name without control characters'),
);

const instant = v.pipe(
  v.string(),
  v.check((text) => canonicalInstant(text) !== null, 'an ISO 8601 date or time, e.g. 2026-01-31T09:15:00Z'),
  v.description('ISO 8601; a date alone is its midnight in UTC.'),
);

const position = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const count = (least: number, most: number) =>
  v.pipe(v.number(), v.integer('a whole number'), v.minValue(least), v.maxValue(most));
const texts = (description: string) =>
  v.pipe(
    v.array(v.pipe(v.string(), v.maxLength(1000))),
    v.minLength(1, 'at least one value'),
    v.maxLength(10_000, 'at most 10000 values'),
    v.description(description),
  );

export const newSource = v.strictObject({ name });

const policy = v.strictObject({
  retry: v.exactOptional(
    v.pipe(
      v.strictObject({
        initialMs: v.exactOptional(
          v.pipe(count(1, 3_600_000), v.description('Delay after the first failure.')),
        ),
        maxMs: v.exactOptional(
          v.pipe(count(1, 86_400_000), v.description('Longest delay between attempts.')),
        ),
        spanMs: v.exactOptional(
          v.pipe(count(0, 7_776_000_000), v.description('How long an event is tried before it is given up.')),
        ),
        minAttempts: v.exactOptional(
          v.pipe(count(1, 1000), v.description('Attempts made in any case, however long they take.')),
        ),
      }),
      v.description('When a failed event is tried again.'),
    ),
  ),
  onPermanentFailure: v.exactOptional(
    v.pipe(
      v.picklist(['skip', 'block']),
      v.description(
        '`skip`: a refused event becomes a dead letter; `block`: its user stands until someone decides.',
      ),
    ),
  ),
  concurrency: v.exactOptional(
    v.pipe(count(1, 1024), v.description('Calls in flight at once, per worker process.')),
  ),
  timeoutMs: v.exactOptional(v.pipe(count(100, 120_000), v.description('For one whole call.'))),
});

const settings = v.pipe(
  v.record(v.string(), v.unknown()),
  v.description("As the type's settingsSchema says. A secret may be given as a reference: `env:NAME`."),
);

export const newDestination = v.strictObject({
  type: v.pipe(v.string(), v.description('Slug of a destination type.')),
  name,
  settings: v.optional(settings, {}),
  enabled: v.optional(v.boolean(), true),
  startFrom: v.optional(
    v.pipe(
      v.picklist(['now', 'beginning']),
      v.description(
        '`beginning`: everything stored is delivered first, then live events, without gap or overlap.',
      ),
    ),
    'now',
  ),
  policy: v.optional(policy, {}),
});

export const destinationChange = v.strictObject({
  name: v.exactOptional(name),
  settings: v.exactOptional(
    v.pipe(
      settings,
      v.description('Merged: absent fields stay, null removes. A masked secret stays as it is.'),
    ),
  ),
  enabled: v.exactOptional(v.pipe(v.boolean(), v.description('true also ends a pause.'))),
  policy: v.exactOptional(v.pipe(policy, v.description('Merged: absent fields stay.'))),
});

const selection = v.strictObject({
  from: v.exactOptional(v.pipe(instant, v.description('Accepted at or after this time.'))),
  to: v.exactOptional(v.pipe(instant, v.description('Accepted before this time.'))),
  fromPosition: v.exactOptional(v.pipe(position, v.description('Inclusive.'))),
  toPosition: v.exactOptional(v.pipe(position, v.description('Inclusive.'))),
  sources: v.exactOptional(texts('Ids or names.')),
  types: v.exactOptional(
    v.pipe(v.array(v.picklist(eventTypes)), v.minLength(1, 'at least one value'), v.maxLength(6)),
  ),
  events: v.exactOptional(texts('Names of track events.')),
  userIds: v.exactOptional(texts('Events that carry one of these user ids.')),
  deadLettersOnly: v.exactOptional(
    v.pipe(v.boolean(), v.description('Only events with a dead letter of this destination.')),
  ),
});

const ratePerSecond = v.pipe(v.number(), v.minValue(0.01), v.maxValue(1_000_000));

export const newReplay = v.strictObject({
  destinationId: v.string(),
  selection: v.optional(selection, {}),
  order: v.optional(
    v.pipe(
      v.picklist(['alongside', 'before-live']),
      v.description(
        '`alongside`: beside live delivery; `before-live`: live delivery waits until it has ended.',
      ),
    ),
    'alongside',
  ),
  ratePerSecond: v.optional(v.nullable(ratePerSecond), null),
});

export const replayChange = v.strictObject({
  ratePerSecond: v.pipe(v.nullable(ratePerSecond), v.description('null: no limit of its own.')),
});

export const query = v.strictObject({
  query: v.pipe(
    v.string(),
    v.minLength(1, 'a statement'),
    v.maxLength(100_000),
    v.description('One statement that reads.'),
  ),
  limit: v.optional(v.pipe(count(1, 10_000), v.description('Most rows returned.')), 1000),
});

// Query strings: every value arrives as text.

const wholeNumber = v.pipe(v.string(), v.regex(/^\d{1,15}$/, 'a whole number'), v.transform(Number));
const pageLimit = v.optional(
  v.pipe(wholeNumber, v.minValue(1, `1 to ${longestPage}`), v.maxValue(longestPage, `1 to ${longestPage}`)),
  '100',
);
const cursor = v.exactOptional(v.pipe(v.string(), v.description('`next` of the page before.')));

export const page = v.strictObject({ cursor, limit: pageLimit });

export const replayPage = v.strictObject({
  destinationId: v.exactOptional(v.string()),
  cursor,
  limit: pageLimit,
});

export const deliveryPage = v.strictObject({
  destinationId: v.exactOptional(v.string()),
  replayId: v.exactOptional(v.string()),
  cursor,
  limit: pageLimit,
});

const eventFilter = {
  from: v.exactOptional(instant),
  to: v.exactOptional(instant),
  fromPosition: v.exactOptional(wholeNumber),
  toPosition: v.exactOptional(wholeNumber),
  sources: v.exactOptional(texts('Ids or names; may be repeated.')),
  types: v.exactOptional(v.array(v.picklist(eventTypes))),
  events: v.exactOptional(texts('Names of track events; may be repeated.')),
  userIds: v.exactOptional(texts('May be repeated.')),
};

/** Fields of an event filter that may be repeated in a query string. */
export const eventFilterLists = ['sources', 'types', 'events', 'userIds'] as const;

export const eventExport = v.strictObject({
  ...eventFilter,
  format: v.optional(v.picklist(['ndjson']), 'ndjson'),
});

export const eventPage = v.strictObject({
  ...eventFilter,
  after: v.exactOptional(v.pipe(wholeNumber, v.description('Only positions above.'))),
  before: v.exactOptional(v.pipe(wholeNumber, v.description('Only positions below.'))),
  cursor,
  limit: pageLimit,
});

export const eventStream = v.strictObject({
  source: v.exactOptional(texts('Ids or names; may be repeated.')),
  type: v.exactOptional(v.array(v.picklist(eventTypes))),
  event: v.exactOptional(texts('May be repeated.')),
  userId: v.exactOptional(texts('May be repeated.')),
  after: v.exactOptional(
    v.pipe(wholeNumber, v.description('Start after this position; Last-Event-ID does the same.')),
  ),
});

/** Fields of a stream's filter that may be repeated in a query string. */
export const eventStreamLists = ['source', 'type', 'event', 'userId'] as const;

export type NewSource = v.InferOutput<typeof newSource>;
export type NewDestination = v.InferOutput<typeof newDestination>;
export type DestinationChange = v.InferOutput<typeof destinationChange>;
export type NewReplay = v.InferOutput<typeof newReplay>;
export type Query = v.InferOutput<typeof query>;
export type Page = v.InferOutput<typeof page>;
export type ReplayPage = v.InferOutput<typeof replayPage>;
export type DeliveryPage = v.InferOutput<typeof deliveryPage>;
export type EventFilter = Omit<v.InferOutput<typeof eventExport>, 'format'>;
export type EventPage = v.InferOutput<typeof eventPage>;
