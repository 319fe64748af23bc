/** The shapes that the admin API answers with, for the OpenAPI document. The verbs' return types are the truth at run time; tests hold each answer against its shape. */
import * as v from 'valibot';

const instant = v.pipe(v.string(), v.isoTimestamp());
const position = v.pipe(v.number(), v.integer());
const nullable = <S extends v.GenericSchema>(shape: S) => v.nullable(shape);

export const failure = v.strictObject({
  code: v.string(),
  message: v.string(),
  details: v.exactOptional(v.unknown()),
});

/** A page of a list. */
export const listOf = <S extends v.GenericSchema>(item: S) =>
  v.strictObject({
    data: v.array(item),
    next: v.pipe(
      nullable(v.string()),
      v.description('Give it as `cursor` for the next page; null: no more.'),
    ),
  });

export const source = v.strictObject({
  id: v.string(),
  name: v.string(),
  enabled: v.boolean(),
  writeKey: v.pipe(nullable(v.string()), v.description('The newest valid one.')),
  writeKeys: v.array(v.strictObject({ key: v.string(), createdAt: instant, expiresAt: nullable(instant) })),
  createdAt: instant,
});

export const destinationType = v.strictObject({
  slug: v.string(),
  name: v.string(),
  description: v.string(),
  accepts: v.array(v.string()),
  limits: v.looseObject({}),
  replay: v.looseObject({}),
  settingsSchema: v.looseObject({}),
});

export const destination = v.strictObject({
  id: v.string(),
  type: v.string(),
  name: v.string(),
  settings: v.pipe(v.record(v.string(), v.unknown()), v.description('Secrets are masked.')),
  enabled: v.boolean(),
  state: v.picklist(['active', 'disabled', 'paused']),
  pausedReason: nullable(v.string()),
  pausedAt: nullable(instant),
  policy: v.looseObject({}),
  createdAt: instant,
  updatedAt: instant,
});

export const destinationStatus = v.strictObject({
  destinationId: v.string(),
  state: v.picklist(['active', 'disabled', 'paused']),
  pausedReason: nullable(v.string()),
  feeds: v.array(
    v.strictObject({
      feedId: v.number(),
      kind: v.picklist(['live', 'replay']),
      replayId: nullable(v.string()),
      state: v.string(),
      head: v.pipe(position, v.description('Newest position of the feed.')),
      cursor: v.pipe(
        position,
        v.description(
          'Every event up to here has ended or belongs to a parked user; the head when nothing waits.',
        ),
      ),
      lagEvents: v.pipe(
        position,
        v.description('Events above the cursor not yet ended; an estimate above 32000.'),
      ),
      lagSeconds: v.pipe(v.number(), v.description('Age of the oldest of them; of a replay, its own age.')),
      parkedUsers: position,
      deadLetters: position,
      delivered: position,
      dead: position,
      filtered: position,
    }),
  ),
});

const selection = v.looseObject({});

export const replay = v.strictObject({
  id: v.string(),
  destinationId: v.string(),
  selection,
  order: v.picklist(['alongside', 'before-live']),
  state: v.picklist(['running', 'paused', 'completed', 'cancelled']),
  total: position,
  done: v.pipe(position, v.description('delivered + dead + filtered; reaches total exactly.')),
  delivered: position,
  dead: position,
  filtered: v.pipe(position, v.description('Of a type that the destination does not take.')),
  ratePerSecond: nullable(v.number()),
  etaSeconds: nullable(v.number()),
  createdAt: instant,
  finishedAt: nullable(instant),
});

export const storedEvent = v.strictObject({
  position,
  sourceId: v.string(),
  messageId: v.string(),
  type: v.string(),
  name: nullable(v.string()),
  userId: nullable(v.string()),
  anonymousId: nullable(v.string()),
  receivedAt: instant,
  timestamp: instant,
  event: v.pipe(v.looseObject({}), v.description('The event as stored.')),
});

export const preview = v.strictObject({
  total: position,
  users: position,
  from: nullable(instant),
  to: nullable(instant),
  firstPosition: nullable(position),
  lastPosition: nullable(position),
  byEvent: v.array(v.strictObject({ type: v.string(), event: nullable(v.string()), count: position })),
  samples: v.array(storedEvent),
  warnings: v.array(v.string()),
  estimatedSeconds: nullable(v.number()),
});

export const deadLetter = v.strictObject({
  position,
  destinationId: v.string(),
  replayId: nullable(v.string()),
  userKey: v.string(),
  userId: nullable(v.string()),
  anonymousId: nullable(v.string()),
  messageId: nullable(v.string()),
  type: nullable(v.string()),
  event: nullable(v.string()),
  status: nullable(v.number()),
  error: v.string(),
  response: nullable(v.string()),
  attempts: v.number(),
  createdAt: instant,
});

export const parkedUser = v.strictObject({
  destinationId: v.string(),
  replayId: nullable(v.string()),
  userKey: v.string(),
  userId: nullable(v.string()),
  anonymousId: nullable(v.string()),
  position,
  attempts: v.number(),
  state: v.picklist(['retry', 'blocked']),
  parkedAt: instant,
  nextAttemptAt: instant,
  lastError: nullable(v.string()),
  lastStatus: nullable(v.number()),
});

export const queryResult = v.strictObject({
  columns: v.array(v.string()),
  rows: v.array(v.array(v.unknown())),
  rowCount: position,
  truncated: v.boolean(),
});

export const reloaded = v.strictObject({ reloaded: v.literal(true) });
