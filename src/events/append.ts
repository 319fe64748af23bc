/**
 * The one insert. A group of events goes to Postgres as one statement in one round trip, because the
 * ingest lock is held from its start to its commit: whoever stalls in between stalls all ingest.
 * Order, positions, `received_at` and de-duplication are decided in `repeater.append_events`.
 */
import { randomBytes } from 'node:crypto';
import type { Sql } from '../db/client.ts';
import type { UserKey } from '../lib/ids.ts';

export type EventType = 'identify' | 'track' | 'page' | 'screen' | 'group' | 'alias';

/** An accepted event, ready to be stored. Times are ISO 8601 in UTC. */
export interface AcceptedEvent {
  readonly sourceId: number;
  readonly lane: number;
  readonly type: EventType;
  readonly event: string | null;
  readonly userId: string | null;
  readonly anonymousId: string | null;
  /** Of an alias: the id that was used before. */
  readonly previousId?: string | null;
  /** By the event's own ids; so is the lane. An anonymous id that is known to be a user's changes both. */
  readonly userKey: UserKey;
  readonly messageId: string;
  /** Fixed time of the event; null when it follows from the time of acceptance. */
  readonly time: string | null;
  /** The time of the event is the time of acceptance minus this; null when `time` or acceptance itself decides. */
  readonly offsetMs: number | null;
  readonly originalTime: string | null;
  readonly sentTime: string | null;
  readonly marks: readonly string[] | null;
  /** The event as JSON text, without raw control characters (as JSON.stringify writes it). */
  readonly text: string;
}

export interface AppendResult {
  /** Events that were new; the rest had been stored before. */
  readonly stored: number;
  /** Highest position of the group, null when nothing was new. */
  readonly lastPosition: number | null;
  /** Lanes that got events, ascending. */
  readonly lanes: readonly number[];
}

/** Control characters that ids hold only in hostile input; JSON text never holds them raw. */
const plainSeparator = '\u001f';
const plainNull = '\u001e';
// oxlint-disable-next-line no-control-regex
const mayCollide = /[\u001e\u001f]/;

/**
 * Appends events in order and commits. Ids (source and messageId) must differ within the group.
 * @throws the Postgres error; then nothing of the group is stored.
 */
export async function appendEvents(
  sql: Sql,
  events: readonly AcceptedEvent[],
  dedupHours: number,
): Promise<AppendResult> {
  const columns = joinColumns(events);
  const linked = events.some((event) => event.anonymousId !== null || typeof event.previousId === 'string');
  const [row] = await sql.unsafe<{ stored: number; last_position: number | null; lanes: number | null }[]>(
    `select * from repeater.append_events(make_interval(hours => $1), $2, ${placeholders})`,
    [dedupHours, linked, ...columns],
    { prepare: true },
  );
  if (!row) throw new Error('append_events returned no row.');
  return { stored: row.stored, lastPosition: row.last_position, lanes: lanesOf(row.lanes ?? 0) };
}

const columnCount = 15;
const placeholders = Array.from({ length: columnCount + 2 }, (_, index) => `$${index + 3}`).join(', ');

function joinColumns(events: readonly AcceptedEvent[]): string[] {
  const count = events.length;
  const columns: string[][] = Array.from({ length: columnCount }, () =>
    Array.from<string>({ length: count }),
  );
  let separator = plainSeparator;
  let nothing = plainNull;
  if (events.some(holdsSeparator)) {
    // Nobody can have put into an event what is drawn only now.
    const random = randomBytes(12).toString('hex');
    separator = `${plainSeparator}${random}`;
    nothing = `${plainNull}${random}`;
  }
  const [
    sources,
    lanes,
    types,
    names,
    userIds,
    anonymousIds,
    previousIds,
    userKeys,
    messageIds,
    times,
    offsets,
    originals,
    sents,
    marks,
    texts,
  ] = columns as [
    string[],
    string[],
    string[],
    string[],
    string[],
    string[],
    string[],
    string[],
    string[],
    string[],
    string[],
    string[],
    string[],
    string[],
    string[],
  ];
  for (let index = 0; index < count; index++) {
    const event = events[index] as AcceptedEvent;
    sources[index] = String(event.sourceId);
    lanes[index] = String(event.lane);
    types[index] = event.type;
    names[index] = event.event ?? nothing;
    userIds[index] = event.userId ?? nothing;
    anonymousIds[index] = event.anonymousId ?? nothing;
    previousIds[index] = event.previousId ?? nothing;
    userKeys[index] = event.userKey;
    messageIds[index] = event.messageId;
    times[index] = event.time ?? nothing;
    offsets[index] = event.offsetMs === null ? nothing : String(event.offsetMs);
    originals[index] = event.originalTime ?? nothing;
    sents[index] = event.sentTime ?? nothing;
    marks[index] = event.marks === null ? nothing : event.marks.join(',');
    texts[index] = event.text;
  }
  return [separator, nothing, ...columns.map((column) => column.join(separator))];
}

function holdsSeparator(event: AcceptedEvent): boolean {
  return (
    mayCollide.test(event.userKey) ||
    mayCollide.test(event.messageId) ||
    (event.event !== null && mayCollide.test(event.event)) ||
    (event.anonymousId !== null && mayCollide.test(event.anonymousId)) ||
    (typeof event.previousId === 'string' && mayCollide.test(event.previousId))
  );
}

function lanesOf(mask: number): number[] {
  // 32 lanes fit a double exactly; bitwise operators would make lane 31 the sign.
  const lanes: number[] = [];
  for (let lane = 0; lane < 32; lane++) if (Math.floor(mask / 2 ** lane) % 2 === 1) lanes.push(lane);
  return lanes;
}
