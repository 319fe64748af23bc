/**
 * The statements of the delivery protocol (migrations/0002_delivery.sql), one function each, for tests that play a
 * worker step by step. Leases are long, so that only `expireLeases` ends one: time is in the hands of the test.
 */
import type { ReservedSql } from 'postgres';
import type { Sql } from '../../src/db/client.ts';

type Session = Sql | ReservedSql<{ bigint: number; instant: string }>;

export interface TakenLane {
  readonly cursor: number;
  readonly endedAbove: number[];
  readonly parkedVersion: number;
  readonly revision: number;
  readonly waiting: string[];
}

export interface ParkedUser {
  readonly userKey: string;
  readonly position: number;
  readonly delayMs?: number;
}

/** What a worker reports of one lane. */
export interface LaneReport {
  readonly feedId: number;
  readonly lane: number;
  readonly owner: string;
  readonly from: number;
  readonly to: number;
  readonly version?: number;
  /** The lane's own, as it is, if absent. */
  readonly revision?: number;
  readonly endedAbove?: readonly number[];
  readonly delivered?: number;
  readonly skippedUsers?: readonly string[];
  readonly parks?: readonly ParkedUser[];
  /** Positions, all of one user. */
  readonly deads?: readonly { readonly position: number; readonly userKey: string }[];
}

export interface LaneAnswer {
  readonly result: 'moved' | 'unparked' | 'lost';
  readonly version: number;
  readonly waiting: string[] | null;
}

const lease = '1 hour';

export async function takeLane(
  sql: Session,
  lane: { readonly feedId: number; readonly lane: number; readonly owner: string },
): Promise<TakenLane | null> {
  const [row] = await sql<TakenLane[]>`
    select cursor, ended_above as "endedAbove", parked_version as "parkedVersion", revision, waiting
    from repeater.take_lane(${lane.feedId}::integer, ${lane.lane}::smallint, ${lane.owner}::text, ${lease}::interval)`;
  return row ?? null;
}

export async function advanceLane(sql: Session, report: LaneReport): Promise<LaneAnswer> {
  const skips = (report.skippedUsers ?? []).map((userKey) => ({ n: 1, userKey }));
  const parks = (report.parks ?? []).map(({ userKey, position, delayMs = 0 }) => {
    return { n: 1, userKey, position, delayMs, attempts: 1, error: 'failed', status: 500, blocked: false };
  });
  const deads = (report.deads ?? []).map(({ position, userKey }) => {
    return { n: 1, position, userKey, status: 400, error: 'refused', response: null, attempts: 1 };
  });
  const json = (list: readonly unknown[]) => (list.length === 0 ? null : JSON.stringify(list));
  const [row] = await sql<LaneAnswer[]>`
    select result, version, waiting from repeater.advance_lanes(
      ${[report.feedId]}::integer[], ${[report.lane]}::smallint[], ${[report.owner]}::text[],
      ${[report.from]}::bigint[], ${[report.to]}::bigint[], ${[`{${(report.endedAbove ?? []).join(',')}}`]}::text[],
      ${[report.version ?? 0]}::integer[],
      array[coalesce(${report.revision ?? null}::bigint, (select revision from repeater.feed_lanes where feed_id = ${report.feedId}::integer and lane = ${report.lane}::smallint))],
      ${[report.delivered ?? 0]}::integer[],
      ${[report.deads?.length ?? 0]}::integer[], ${[0]}::integer[],
      ${json(skips)}::text::json, ${json(parks)}::text::json, ${json(deads)}::text::json, ${lease}::interval)`;
  return row as LaneAnswer;
}

export async function releaseLane(
  sql: Session,
  lane: { readonly feedId: number; readonly lane: number; readonly owner: string },
  isAwake: boolean,
): Promise<void> {
  await sql`select repeater.release_lanes(${[lane.feedId]}::integer[], ${[lane.lane]}::smallint[],
    ${[lane.owner]}::text[], ${isAwake}::boolean)`;
}

/** Renews one lane's or one user's lease; whether it was still the owner's. */
export async function renew(
  sql: Session,
  held: { readonly feedId: number; readonly owner: string } & (
    { readonly lane: number } | { readonly userKey: string }
  ),
): Promise<boolean> {
  const lanes = 'lane' in held ? [held] : [];
  const users = 'userKey' in held ? [held] : [];
  const rows = await sql`select repeater.renew_leases(
    ${lanes.map((each) => each.feedId)}::integer[], ${lanes.map((each) => each.lane)}::smallint[],
    ${lanes.map((each) => each.owner)}::text[], ${users.map((each) => each.feedId)}::integer[],
    ${users.map((each) => each.userKey)}::text[], ${users.map((each) => each.owner)}::text[], ${lease}::interval)`;
  return rows.length === 1;
}

interface UserHold {
  readonly feedId: number;
  readonly userKey: string;
  readonly owner: string;
}

export async function takeUser(
  sql: Session,
  user: UserHold,
): Promise<{ readonly lane: number; readonly from: number; readonly attempts: number } | null> {
  const [row] = await sql<{ lane: number; from: number; attempts: number }[]>`
    select lane, from_position as "from", attempts
    from repeater.take_user(${user.feedId}::integer, ${user.userKey}::text, ${user.owner}::text, ${lease}::interval)`;
  return row ?? null;
}

/** False: the user is somebody else's. With `failed` it waits and is let go. */
export async function advanceUser(
  sql: Session,
  user: UserHold,
  done: {
    readonly next: number;
    readonly delivered?: number;
    readonly failed?: { readonly attempts: number };
  },
): Promise<boolean> {
  const failure = done.failed && { ...done.failed, delayMs: 0, error: 'failed', status: 500, blocked: false };
  const [row] = await sql<{ ok: boolean }[]>`
    select repeater.advance_user(${user.feedId}::integer, ${user.userKey}::text, ${user.owner}::text,
      ${done.next}::bigint, ${done.delivered ?? 0}::integer, 0, 0, null::json,
      ${failure ? JSON.stringify(failure) : null}::text::json) as ok`;
  return row?.ok === true;
}

/** Null: handed back, or no longer the owner's; else the cursor to go on to. */
export async function unparkUser(
  sql: Session,
  user: UserHold & { readonly lane: number; readonly seenCursor: number },
): Promise<number | null> {
  const [row] = await sql<{ moved: number | null }[]>`
    select repeater.unpark_user(${user.feedId}::integer, ${user.userKey}::text, ${user.owner}::text,
      ${user.lane}::smallint, ${user.seenCursor}::bigint) as moved`;
  return row?.moved ?? null;
}

/** Lets the leases of these owners run out, as if their workers had been silent for too long. */
export async function expireLeases(sql: Session, ...owners: readonly string[]): Promise<void> {
  await sql`update repeater.feed_lanes set lease_until = clock_timestamp() - interval '1 second'
    where lease_owner = any(${[...owners]}::text[])`;
  await sql`update repeater.parked_users set lease_until = clock_timestamp() - interval '1 second'
    where lease_owner = any(${[...owners]}::text[])`;
}

/** Keys of the wake-up jobs that are waiting, e.g. `1:17` for a lane and `1:u:ann` for a user; sorted. */
export async function waitingJobs(sql: Session): Promise<string[]> {
  const rows = await sql<
    { key: string }[]
  >`select key from graphile_worker.jobs where key is not null order by key`;
  return rows.map((row) => row.key);
}

export async function forgetJobs(sql: Session): Promise<void> {
  await sql`delete from graphile_worker._private_jobs`;
}
