/** A lane while this process has its lease, with what waits to be recorded of it. */
import type { DeliverableEvent, Outcome } from '../destinations/definition.ts';
import { LaneWindow } from './lane-window.ts';

export interface Park {
  readonly userKey: string;
  readonly position: number;
  readonly delayMs: number;
  readonly attempts: number;
  readonly error: string;
  readonly status: number | null;
  readonly blocked: boolean;
}

export interface DeadLetter {
  readonly position: number;
  readonly userKey: string;
  readonly status: number | null;
  readonly error: string;
  readonly response: string | null;
  readonly attempts: number;
}

/** A lane this process has the lease of. */
export class LaneRun extends LaneWindow {
  readonly lane: number;
  /** Proves to the database that a write comes from the holder of the lease. */
  readonly owner: string;
  parkedVersion: number;
  /** Reports of the lane that have been written, by this owner and those before. */
  revision: number;
  /** Position up to which the lane has been read. */
  readTo: number;
  /** Every event of the lane up to here that there will ever be is in the window or behind it. */
  readThrough: number;
  /** The last read found the end; look again when there is news. */
  exhausted = false;
  /** Another worker may have it: nothing is sent and every late outcome is dropped. */
  lost = false;
  lastReadAt = Date.now();
  readonly parks = new Map<string, Park>();
  readonly deads: DeadLetter[] = [];

  constructor(
    lane: number,
    owner: string,
    taken: { cursor: number; endedAbove: number[]; version: number; revision: number; waiting: string[] },
  ) {
    super(taken.cursor, taken.endedAbove, taken.waiting);
    this.lane = lane;
    this.owner = owner;
    this.parkedVersion = taken.version;
    this.revision = taken.revision;
    this.readTo = taken.cursor;
    this.readThrough = taken.cursor;
  }
}

/** What is kept of an event that is given up. */
export function deadLetterOf(
  event: DeliverableEvent,
  outcome: Exclude<Outcome, { kind: 'delivered' }>,
  attempts: number,
): DeadLetter {
  return {
    position: event.position,
    userKey: event.userKey,
    status: outcome.status ?? null,
    error: outcome.reason,
    response: outcome.kind === 'rejected' ? (outcome.response ?? null) : null,
    attempts,
  };
}
