/**
 * Every table, for drizzle. Two schemas: `warehouse` is what analysts read, `repeater` is how the
 * program keeps its promises. Rules that let `warehouse.events` be distributed later: every unique
 * key of it contains `lane` (and the partition key `received_at`), and no foreign key goes to or from it.
 */
import { sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  customType,
  doublePrecision,
  index,
  integer,
  jsonb,
  pgSchema,
  primaryKey,
  smallint,
  text,
  timestamp,
  uniqueIndex,
} from 'drizzle-orm/pg-core';

export const warehouse = pgSchema('warehouse');
export const repeater = pgSchema('repeater');

const position = (name: string) => bigint(name, { mode: 'number' });
const instant = (name: string) => timestamp(name, { withTimezone: true, mode: 'string' });
const bigintArray = customType<{ data: number[] }>({ dataType: () => 'bigint[]' });

/** The append-only log. Partitioned by `received_at`, a month each; partitions are made ahead by the program. */
export const events = warehouse.table(
  'events',
  {
    id: position('id').notNull(),
    receivedAt: instant('received_at').notNull(),
    timestamp: instant('timestamp').notNull(),
    originalTimestamp: instant('original_timestamp'),
    sentAt: instant('sent_at'),
    sourceId: integer('source_id').notNull(),
    lane: smallint('lane').notNull(),
    type: text('type').notNull(),
    event: text('event'),
    userId: text('user_id'),
    anonymousId: text('anonymous_id'),
    userKey: text('user_key').notNull(),
    messageId: text('message_id').notNull(),
    /** What was done to the event at the door, e.g. `replaced_characters`; null for nearly all. */
    marks: text('marks').array(),
    /** Users whose events must have ended before this one is sent, `[[userKey, position], …]`; null for nearly all. */
    barriers: jsonb('barriers'),
    payload: jsonb('payload').notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.lane, table.id, table.receivedAt] }),
    index('events_user_key_idx').on(table.userKey, table.id),
    index('events_message_idx').on(sql`hashtextextended(${table.messageId}, ${table.sourceId}::bigint)`),
    index('events_id_brin').using('brin', table.id),
  ],
);

/** Whose events an anonymous id's are: the user it was last seen with. Written under the ingest lock only. */
export const identities = warehouse.table(
  'identities',
  {
    anonymousId: text('anonymous_id').primaryKey(),
    userId: text('user_id').notNull(),
    userKey: text('user_key').notNull(),
    /** Of the user key. */
    lane: smallint('lane').notNull(),
    /** The event that said so. */
    position: position('position').notNull(),
    identifiedAt: instant('identified_at').notNull(),
  },
  (table) => [index('identities_user_idx').on(table.userId)],
);

/** Events refused at the door, with the reasons. `payload` is text: what was refused need not be valid jsonb. */
export const rejectedEvents = warehouse.table(
  'rejected_events',
  {
    id: position('id').primaryKey().generatedAlwaysAsIdentity(),
    receivedAt: instant('received_at').notNull().defaultNow(),
    sourceId: integer('source_id').notNull(),
    code: text('code').notNull(),
    problems: jsonb('problems').notNull(),
    type: text('type'),
    messageId: text('message_id'),
    userId: text('user_id'),
    anonymousId: text('anonymous_id'),
    payload: text('payload').notNull(),
  },
  (table) => [index('rejected_events_received_at_idx').on(table.receivedAt)],
);

/** Facts fixed when the installation was made, and values it made for itself (sealed when secret). */
export const settings = repeater.table('settings', {
  name: text('name').primaryKey(),
  value: text('value').notNull(),
});

export const sources = repeater.table(
  'sources',
  {
    id: integer('id').primaryKey().generatedAlwaysAsIdentity(),
    name: text('name').notNull(),
    enabled: boolean('enabled').notNull().default(true),
    createdAt: instant('created_at').notNull().defaultNow(),
  },
  (table) => [uniqueIndex('sources_name_key').on(table.name)],
);

/** Several keys of a source can be valid at once while one is being rotated. */
export const writeKeys = repeater.table('write_keys', {
  key: text('key').primaryKey(),
  sourceId: integer('source_id')
    .notNull()
    .references(() => sources.id),
  createdAt: instant('created_at').notNull().defaultNow(),
  expiresAt: instant('expires_at'),
});

export const destinations = repeater.table('destinations', {
  id: integer('id').primaryKey().generatedAlwaysAsIdentity(),
  type: text('type').notNull(),
  name: text('name').notNull(),
  settings: jsonb('settings').notNull(),
  /** Field name -> sealed value or `env:NAME` reference. */
  secrets: jsonb('secrets').notNull(),
  /** Retry policy and limits that differ from the type's; see admin/input.ts. */
  policy: jsonb('policy').notNull().default({}),
  enabled: boolean('enabled').notNull().default(true),
  /** Why delivery stands although the admin wants it: a refused key, a gone endpoint. */
  pausedReason: text('paused_reason'),
  pausedAt: instant('paused_at'),
  /** Counts changes; workers reload the settings when it moved. */
  version: integer('version').notNull().default(1),
  createdAt: instant('created_at').notNull().defaultNow(),
  updatedAt: instant('updated_at').notNull().defaultNow(),
  deletedAt: instant('deleted_at'),
});

/** A run of events toward one destination: `live` has no end, a `replay` is bounded and selected. */
export const feeds = repeater.table(
  'feeds',
  {
    id: integer('id').primaryKey().generatedAlwaysAsIdentity(),
    destinationId: integer('destination_id')
      .notNull()
      .references(() => destinations.id),
    kind: text('kind', { enum: ['live', 'replay'] }).notNull(),
    state: text('state', { enum: ['running', 'paused', 'completed', 'cancelled'] }).notNull(),
    /** Null: everything. */
    selection: jsonb('selection'),
    /** True when the positions are listed in feed_positions instead of being found by the selection while reading. */
    listed: boolean('listed').notNull().default(false),
    /** Exclusive. */
    fromPosition: position('from_position').notNull(),
    /** Inclusive; null for a live feed. */
    toPosition: position('to_position'),
    order: text('order', { enum: ['alongside', 'before-live'] })
      .notNull()
      .default('alongside'),
    ratePerSecond: doublePrecision('rate_per_second'),
    /** Token bucket shared by all workers. */
    rateTokens: doublePrecision('rate_tokens').notNull().default(0),
    rateAt: instant('rate_at').notNull().defaultNow(),
    total: position('total'),
    createdAt: instant('created_at').notNull().defaultNow(),
    finishedAt: instant('finished_at'),
  },
  (table) => [index('feeds_destination_idx').on(table.destinationId)],
);

/** The truth about delivery: how far each lane of a feed is, and which worker has it. */
export const feedLanes = repeater.table(
  'feed_lanes',
  {
    feedId: integer('feed_id').notNull(),
    lane: smallint('lane').notNull(),
    /** Every event of the lane up to here has ended or belongs to a parked user. */
    cursor: position('cursor').notNull(),
    /** Positions above the cursor that have ended already. */
    endedAbove: bigintArray('ended_above').notNull().default([]),
    awake: boolean('awake').notNull().default(false),
    leaseOwner: text('lease_owner'),
    leaseUntil: instant('lease_until'),
    /** Moves when a user of the lane is unparked, so that the lane's worker looks again. */
    parkedVersion: integer('parked_version').notNull().default(0),
    /** Counts the reports written, so that one whose answer was lost is not written again. */
    revision: position('revision').notNull().default(0),
    delivered: position('delivered').notNull().default(0),
    dead: position('dead').notNull().default(0),
    filtered: position('filtered').notNull().default(0),
  },
  (table) => [primaryKey({ columns: [table.feedId, table.lane] })],
);

/** The positions of a listed feed: dead letters, a few users' events, any set that an index finds faster than the log. */
export const feedPositions = repeater.table(
  'feed_positions',
  {
    feedId: integer('feed_id').notNull(),
    lane: smallint('lane').notNull(),
    position: position('position').notNull(),
  },
  (table) => [primaryKey({ columns: [table.feedId, table.lane, table.position] })],
);

/** A user whose next event must be retried; the later ones wait, nobody else does. */
export const parkedUsers = repeater.table(
  'parked_users',
  {
    feedId: integer('feed_id').notNull(),
    userKey: text('user_key').notNull(),
    lane: smallint('lane').notNull(),
    /** The event to go on from. */
    fromPosition: position('from_position').notNull(),
    /** Failed attempts of that event. */
    attempts: integer('attempts').notNull().default(0),
    /** `retry`: waits for the next attempt; `blocked`: stands until someone decides. */
    state: text('state', { enum: ['retry', 'blocked'] })
      .notNull()
      .default('retry'),
    parkedAt: instant('parked_at').notNull().defaultNow(),
    firstFailedAt: instant('first_failed_at'),
    nextAttemptAt: instant('next_attempt_at').notNull().defaultNow(),
    lastError: text('last_error'),
    lastStatus: integer('last_status'),
    leaseOwner: text('lease_owner'),
    leaseUntil: instant('lease_until'),
  },
  (table) => [
    primaryKey({ columns: [table.feedId, table.userKey] }),
    index('parked_users_lane_idx').on(table.feedId, table.lane),
    index('parked_users_due_idx').on(table.feedId, table.nextAttemptAt),
  ],
);

/** An event given up for a destination; it can be replayed. */
export const deadLetters = repeater.table(
  'dead_letters',
  {
    feedId: integer('feed_id').notNull(),
    position: position('position').notNull(),
    destinationId: integer('destination_id').notNull(),
    lane: smallint('lane').notNull(),
    userKey: text('user_key').notNull(),
    status: integer('status'),
    error: text('error').notNull(),
    response: text('response'),
    attempts: integer('attempts').notNull(),
    createdAt: instant('created_at').notNull().defaultNow(),
  },
  (table) => [
    primaryKey({ columns: [table.feedId, table.position] }),
    index('dead_letters_destination_idx').on(table.destinationId, table.position),
  ],
);

/** Worker processes alive; the jobs of those that went silent are freed. */
export const workers = repeater.table('workers', {
  id: text('id').primaryKey(),
  host: text('host').notNull(),
  pid: integer('pid').notNull(),
  graphileIds: text('graphile_ids').array().notNull(),
  startedAt: instant('started_at').notNull().defaultNow(),
  seenAt: instant('seen_at').notNull().defaultNow(),
});
