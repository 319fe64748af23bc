/**
 * Order across an identity change: an event with a barrier waits until another user's earlier events have ended
 * (see repeater.resolve_identities). Whether they have is known here when this process has that user's lane, and
 * asked of the database when it has not. Who waits for long is parked, so that nobody behind it does.
 */
import type { Sql } from '../db/client.ts';
import type { Barrier } from '../events/stored-event.ts';
import { laneOf } from '../lib/ids.ts';
import type { LaneRun } from './lane-run.ts';
import type { Entry } from './lane-window.ts';

export type BarrierState = 'passed' | 'open' | 'parked';

/** Why such a user is parked. */
export const waitsForOthers =
  'Not a failure: it waits for earlier events of the same person under another id.';

/** How long an event waits in its lane before its user is parked. */
const patienceMs = 1_000;

/** The worst state of an event's barriers by what the database has recorded. */
export async function readBarriers(
  sql: Sql,
  feedId: number,
  barriers: readonly Barrier[],
): Promise<BarrierState> {
  const rows = await sql<{ state: BarrierState }[]>`
    select state from repeater.look_at_barriers(${feedId}::integer, ${barriers.map(([userKey]) => userKey)}::text[],
      ${barriers.map(([userKey]) => laneOf(userKey))}::smallint[], ${barriers.map(([, position]) => position)}::bigint[])`;
  return (
    rows.find(({ state }) => state === 'parked')?.state ??
    rows.find(({ state }) => state === 'open')?.state ??
    'passed'
  );
}

/** What became of entries that waited. */
interface Review {
  readonly free: readonly Entry[];
  readonly park: readonly Entry[];
}

export class BarredEntries {
  readonly #sql: Sql;
  readonly #feedId: number;
  readonly #lanes: ReadonlyMap<number, LaneRun>;
  /** With the time they came. */
  readonly #waiting = new Map<Entry, number>();
  #awaited = new Set<string>();

  constructor(sql: Sql, feedId: number, lanes: ReadonlyMap<number, LaneRun>) {
    this.#sql = sql;
    this.#feedId = feedId;
    this.#lanes = lanes;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /** Whether somebody waits for events of this user. */
  awaits(userKey: string): boolean {
    return this.#awaited.size > 0 && this.#awaited.has(userKey);
  }

  hold(entry: Entry): void {
    this.#waiting.set(entry, performance.now());
    for (const [userKey] of entry.barriers ?? []) this.#awaited.add(userKey);
  }

  /** Lets go whose barriers have been passed, as far as this process knows. Cheap; called when events have ended. */
  release(): Entry[] {
    const free: Entry[] = [];
    for (const entry of this.#waiting.keys()) {
      if (!stillWaits(entry)) this.#waiting.delete(entry);
      else if (this.#stateOf(entry) === 'passed') this.#letGo(entry, free);
    }
    this.#awaited = new Set(
      [...this.#waiting.keys()].flatMap(({ barriers }) => (barriers ?? []).map(([userKey]) => userKey)),
    );
    return free;
  }

  /** As `release`, and asks the database about lanes that others have; names those that should be parked. */
  async review(): Promise<Review> {
    const free = this.release();
    const park: Entry[] = [];
    for (const [entry, since] of this.#waiting) {
      const known = this.#stateOf(entry);
      const state = known ?? (await readBarriers(this.#sql, this.#feedId, entry.barriers ?? []));
      // It may have been let go while the database was asked.
      if (!this.#waiting.has(entry) || !stillWaits(entry)) continue;
      if (state === 'passed') this.#letGo(entry, free);
      else if (state === 'parked' || performance.now() - since > patienceMs) this.#letGo(entry, park);
    }
    // While the others were asked, an entry's lane may have gone.
    return { free: free.filter(stillWaits), park: park.filter(stillWaits) };
  }

  #letGo(entry: Entry, to: Entry[]): void {
    this.#waiting.delete(entry);
    to.push(entry);
  }

  /** Undefined when a lane it depends on is not here. */
  #stateOf(entry: Entry): BarrierState | undefined {
    let worst: BarrierState = 'passed';
    for (const [userKey, position] of entry.barriers ?? []) {
      const lane = this.#lanes.get(laneOf(userKey));
      if (lane === undefined || lane.lost) return undefined;
      if (lane.isParked(userKey)) return 'parked';
      if (lane.readThrough < position || lane.hasOpen(userKey, position)) worst = 'open';
    }
    return worst;
  }
}

function stillWaits(entry: Entry): boolean {
  return entry.state === 'waiting' && !(entry.window as LaneRun).lost;
}
