/**
 * Which events: one selection, two meanings that must never differ. `selectionCondition` is its SQL and
 * `matchesSelection` its predicate; each field keeps both in one place below, and a property test compares
 * them on real rows. A field is a closed condition over the stored columns; all of them must hold.
 */
import type { Fragment, Sql, Transaction } from '../db/client.ts';

/** All fields are optional; an absent one selects everything, an empty list nothing. */
export interface Selection {
  /** Time of acceptance, inclusive; canonical (see `canonicalInstant`). */
  readonly from?: string;
  /** Time of acceptance, exclusive; canonical. */
  readonly to?: string;
  /** Inclusive. */
  readonly fromPosition?: number;
  /** Inclusive. */
  readonly toPosition?: number;
  /** Ids of sources. */
  readonly sources?: readonly number[];
  readonly types?: readonly string[];
  /** Names of track events. */
  readonly events?: readonly string[];
  readonly userIds?: readonly string[];
}

/** What the predicate looks at; a DeliverableEvent with its source. */
export interface SelectableEvent {
  readonly position: number;
  readonly sourceId: number;
  readonly type: string;
  readonly event: string | null;
  readonly userId: string | null;
  /** ISO 8601 in UTC as Postgres writes it: up to microseconds, zeros at the end left out. */
  readonly receivedAt: string;
}

interface Condition<Value> {
  readonly sql: (sql: Sql | Transaction, value: Value) => Fragment;
  readonly matches: (value: Value, event: SelectableEvent) => boolean;
}

type Conditions = { readonly [Field in keyof Selection]-?: Condition<NonNullable<Selection[Field]>> };

const conditions: Conditions = {
  // Canonical instants compare as text just as they do in time.
  from: {
    sql: (sql, from) => sql`e.received_at >= ${from}::timestamptz`,
    matches: (from, event) => microseconds(event.receivedAt) >= from,
  },
  to: {
    sql: (sql, to) => sql`e.received_at < ${to}::timestamptz`,
    matches: (to, event) => microseconds(event.receivedAt) < to,
  },
  fromPosition: {
    sql: (sql, position) => sql`e.id >= ${position}`,
    matches: (position, event) => event.position >= position,
  },
  toPosition: {
    sql: (sql, position) => sql`e.id <= ${position}`,
    matches: (position, event) => event.position <= position,
  },
  sources: {
    sql: (sql, ids) => sql`e.source_id = any(${[...ids]}::integer[])`,
    matches: (ids, event) => ids.includes(event.sourceId),
  },
  types: {
    sql: (sql, types) => sql`e.type = any(${types.map(storedText)}::text[])`,
    matches: (types, event) => types.map(storedText).includes(event.type),
  },
  events: {
    sql: (sql, names) => sql`e.event = any(${names.map(storedText)}::text[])`,
    matches: (names, event) => event.event !== null && names.map(storedText).includes(event.event),
  },
  userIds: {
    // An event with a user id always has the user key `u:<userId>` (lib/ids.ts), which is what is indexed.
    sql: (sql, ids) =>
      sql`e.user_key = any(${ids.map((id) => `u:${storedText(id)}`)}::text[]) and e.user_id is not null`,
    matches: (ids, event) => event.userId !== null && ids.map(storedText).includes(event.userId),
  },
};

const fields = Object.keys(conditions) as (keyof Selection)[];

/** The selection as a condition on alias `e` of warehouse.events, values as parameters only. */
export function selectionCondition(sql: Sql | Transaction, selection: Selection): Fragment {
  const terms = fields.flatMap((field) => {
    const value = selection[field];
    return value === undefined ? [] : [conditionOf(field).sql(sql, value)];
  });
  return terms.reduce((all, term) => sql`${all} and ${term}`, sql`true`);
}

/** Whether an event belongs to the selection: the same answer as its SQL. */
export function matchesSelection(selection: Selection, event: SelectableEvent): boolean {
  return fields.every((field) => {
    const value = selection[field];
    return value === undefined || conditionOf(field).matches(value, event);
  });
}

/** The table's own types say that a field's value fits its condition; TypeScript cannot follow that through a loop. */
function conditionOf(field: keyof Selection): Condition<unknown> {
  return conditions[field] as Condition<unknown>;
}

/** A UTC instant with all its six digits. */
function microseconds(instant: string): string {
  return instant.length === 27 ? instant : `${instant.slice(0, 19)}.${instant.slice(20, -1).padEnd(6, '0')}Z`;
}

/** A text as the door stores it: NUL and lone surrogates cannot be stored and become U+FFFD. */
function storedText(text: string): string {
  return text.toWellFormed().replaceAll('\0', '\u{FFFD}');
}

const instantText =
  /^(\d{4}-\d{2}-\d{2})(?:[Tt ](\d{2}:\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?\s?([Zz]|[+-]\d{2}:?\d{2})?)?$/;

/**
 * An ISO 8601 date or time as UTC with microseconds, e.g. `2026-01-31T09:15:00.000000Z`; null when it is none.
 * A date alone is its midnight, a time without offset is UTC; digits below a microsecond are cut off.
 */
export function canonicalInstant(text: string): string | null {
  const match = instantText.exec(text);
  if (!match) return null;
  const [, date = '', minutes = '00:00', seconds = '00', fraction = '', offset = 'Z'] = match;
  const zone = /^[+-]\d{4}$/.test(offset) ? `${offset.slice(0, 3)}:${offset.slice(3)}` : offset.toUpperCase();
  const instant = new Date(`${date}T${minutes}:${seconds}${zone}`);
  // Date accepts the 31st of any month and moves it on.
  if (Number.isNaN(instant.getTime()) || !isRealDate(date)) return null;
  const whole = instant.toISOString();
  return whole.length === 24 ? `${whole.slice(0, 19)}.${fraction.slice(0, 6).padEnd(6, '0')}Z` : null;
}

function isRealDate(date: string): boolean {
  const midnight = new Date(`${date}T00:00:00Z`);
  return !Number.isNaN(midnight.getTime()) && midnight.toISOString().startsWith(date);
}
