/**
 * A worker in slow motion, for random histories: it does what the engine does with the real windows and the real
 * statements, but one small step at a time and only when it is told to, so that anything can come between two steps.
 */
import type { Sql } from '../../src/db/client.ts';
import { LaneRun } from '../../src/delivery/lane-run.ts';
import type { Entry, Progress } from '../../src/delivery/lane-window.ts';
import { readLanes, readUser, type Slice } from '../../src/events/read-slice.ts';
import type { StoredEvent } from '../../src/events/stored-event.ts';
import * as protocol from './lane-protocol.ts';
import type { Random } from './senders.ts';

/** Where events go; it knows everything, and complains. */
export interface Destination {
  /** An attempt begins. Whether it will succeed. */
  begin(attempt: Flight): boolean;
  /** It has ended, as its worker knows now. */
  end(attempt: Flight): void;
}

/** An attempt under way. */
export interface Flight {
  readonly worker: ModelWorker;
  readonly userKey: string;
  readonly position: number;
  succeeds: boolean;
  /** It has reached its destination; before its end or with it. */
  arrived: boolean;
}

interface Lane {
  readonly run: LaneRun;
  readonly ready: Entry[];
  readonly flights: Map<Entry, Flight>;
  /** Positions delivered and not recorded. */
  unrecorded: Set<number>;
  /** Written or not: the answer got lost. */
  unanswered: Report | null;
}

interface Report extends protocol.LaneReport {
  readonly parks: readonly protocol.ParkedUser[];
  readonly progress: Progress;
  /** Positions delivered that it records. */
  readonly ended: readonly number[];
}

interface User {
  readonly owner: string;
  readonly lane: number;
  next: number;
  attempts: number;
  delivered: number;
  queue: StoredEvent[];
  flight: Flight | null;
  unrecorded: Set<number>;
  /** The lane's cursor as it was seen when everything so far had been recorded. */
  seenCursor: number | null;
  /** Nothing of the user is left up to that cursor. */
  isClear: boolean;
}

const page = 4;

export class ModelWorker {
  readonly name: string;
  isFrozen = false;
  readonly lanes = new Map<number, Lane>();
  readonly users = new Map<string, User>();
  /** Lanes put to sleep, with where they were read to: the last look is still to come. */
  readonly asleep: { lane: number; readTo: number }[] = [];
  /** Positions that may be sent again, because this worker forgot that it had delivered them. */
  readonly forgotten: number[] = [];
  /** Owners that nobody renews any more: their leases run out. */
  readonly abandoned: string[] = [];
  readonly #sql: Sql;
  readonly #slice: Slice;
  readonly #destination: Destination;
  readonly #random: Random;
  #takes = 0;

  constructor(
    name: string,
    parts: {
      readonly sql: Sql;
      readonly feedId: number;
      readonly destination: Destination;
      readonly random: Random;
    },
  ) {
    this.name = name;
    this.#sql = parts.sql;
    this.#slice = { feedId: parts.feedId, listed: false, upTo: null, condition: null };
    this.#destination = parts.destination;
    this.#random = parts.random;
  }

  get owners(): string[] {
    return [...this.lanes.values()]
      .map(({ run }) => run.owner)
      .concat([...this.users.values()].map(({ owner }) => owner));
  }

  get flights(): Flight[] {
    const ofUsers = [...this.users.values()].flatMap(({ flight }) => (flight ? [flight] : []));
    return [...this.lanes.values()].flatMap(({ flights }) => [...flights.values()]).concat(ofUsers);
  }

  async takeLane(lane: number): Promise<void> {
    if (this.lanes.has(lane)) return;
    const owner = `${this.name}:${++this.#takes}`;
    const taken = await protocol.takeLane(this.#sql, { feedId: this.#slice.feedId, lane, owner });
    if (!taken) return;
    const { cursor, endedAbove, parkedVersion: version, revision, waiting } = taken;
    const run = new LaneRun(lane, owner, { cursor, endedAbove, version, revision, waiting });
    this.lanes.set(lane, { run, ready: [], flights: new Map(), unrecorded: new Set(), unanswered: null });
  }

  /** One step with a lane: read, begin or end an attempt, write, or fall asleep when there is nothing else. */
  async stepLane(lane: number): Promise<void> {
    const held = this.lanes.get(lane);
    if (!held) return;
    const { run, ready, flights } = held;
    const steps: (() => Promise<void> | void)[] = [() => this.#readLane(held), () => this.writeLane(lane)];
    if (ready.length > 0)
      steps.push(
        () => this.#begin(held),
        () => this.#begin(held),
      );
    if (flights.size > 0)
      steps.push(
        () => this.#end(held),
        () => this.#end(held),
      );
    if (run.isIdle && run.exhausted && run.parks.size === 0) steps.push(() => this.#sleep(held));
    await this.#pick(steps)();
  }

  async #readLane({ run, ready }: Lane): Promise<void> {
    const events = await readLanes(this.#sql, this.#slice, {
      lanes: [run.lane],
      after: [run.readTo],
      limit: page,
    });
    for (const event of events) {
      run.readTo = event.position;
      const entry = run.add(event, true);
      if (entry) ready.push(entry);
    }
    run.exhausted = events.length < page;
  }

  #begin({ ready, flights }: Lane): void {
    const [entry] = ready.splice(Math.floor(this.#random() * ready.length), 1) as [Entry];
    flights.set(entry, this.#fly(entry.userKey, entry.position));
  }

  #end({ run, ready, flights, unrecorded }: Lane): void {
    const [entry, flight] = this.#pick([...flights]);
    flights.delete(entry);
    this.#destination.end(flight);
    const { userKey, position } = entry;
    if (flight.succeeds) {
      unrecorded.add(position);
      const next = run.end(entry, 'delivered');
      if (next) ready.push(next);
    } else {
      run.parks.set(userKey, {
        userKey,
        position,
        delayMs: 0,
        attempts: 1,
        error: 'failed',
        status: 500,
        blocked: false,
      });
      run.park(entry);
    }
  }

  /** As the progress writer does. With `isDeaf` the answer gets lost, and the next write says the same again. */
  async writeLane(lane: number, isDeaf = false): Promise<void> {
    const held = this.lanes.get(lane);
    const report = held && (held.unanswered ?? this.#report(held.run));
    if (!held || !report) return;
    const answer = await protocol.advanceLane(this.#sql, report);
    held.unanswered = isDeaf ? report : null;
    if (isDeaf) return;
    if (answer.result === 'lost') return this.dropLane(lane);
    const { run } = held;
    if (answer.result === 'moved') {
      run.revision++;
      run.confirm(report.progress);
      for (const { userKey } of report.parks) run.parks.delete(userKey);
      for (const position of report.ended) held.unrecorded.delete(position);
    }
    run.parkedVersion = answer.version;
    if (answer.waiting) held.ready.push(...run.setParked(answer.waiting, new Set(run.parks.keys())));
  }

  #report(run: LaneRun): Report | null {
    const progress = run.progress(run.parks.size > 0);
    if (!progress) return null;
    const { owner, parkedVersion: version, revision, lane } = run;
    const { from, to, endedAbove, delivered } = progress;
    const skippedUsers = progress.skippedUsers.filter((userKey) => !run.parks.has(userKey));
    const ended = [...(this.lanes.get(lane)?.unrecorded ?? [])];
    const parks = [...run.parks.values()];
    const { feedId } = this.#slice;
    return {
      feedId,
      lane,
      owner,
      version,
      revision,
      from,
      to,
      endedAbove,
      delivered,
      skippedUsers,
      parks,
      progress,
      ended,
    };
  }

  async #sleep({ run }: Lane): Promise<void> {
    this.lanes.delete(run.lane);
    await protocol.releaseLane(
      this.#sql,
      { feedId: this.#slice.feedId, lane: run.lane, owner: run.owner },
      false,
    );
    this.asleep.push({ lane: run.lane, readTo: run.readTo });
  }

  async lastLook(): Promise<void> {
    const look = this.asleep.shift();
    if (!look) return;
    const missed = await readLanes(this.#sql, this.#slice, {
      lanes: [look.lane],
      after: [look.readTo],
      limit: 1,
    });
    if (missed.length > 0) await this.#sql`select repeater.wake_lanes(${[look.lane]}::smallint[])`;
  }

  async takeUser(userKey: string): Promise<void> {
    if (this.users.has(userKey)) return;
    const owner = `${this.name}:${++this.#takes}`;
    const taken = await protocol.takeUser(this.#sql, { feedId: this.#slice.feedId, userKey, owner });
    if (!taken) return;
    this.users.set(userKey, {
      owner,
      lane: taken.lane,
      next: taken.from,
      attempts: taken.attempts,
      delivered: 0,
      queue: [],
      flight: null,
      unrecorded: new Set(),
      seenCursor: null,
      isClear: false,
    });
  }

  /** One step with a parked user: read, begin or end an attempt, record, look at the lane, hand back. */
  async stepUser(userKey: string): Promise<void> {
    const user = this.users.get(userKey);
    if (!user) return;
    const [event] = user.queue;
    if (user.flight) await this.#endOfUser(userKey, user, user.flight);
    else if (event) user.flight = this.#fly(userKey, event.position);
    else if (user.seenCursor !== null) await this.#handBack(userKey, user, user.seenCursor);
    else await this.#catchUp(userKey, user);
  }

  async #endOfUser(userKey: string, user: User, flight: Flight): Promise<void> {
    user.flight = null;
    this.#destination.end(flight);
    if (!flight.succeeds) return this.#letGo(userKey, user, user.attempts + 1);
    user.queue.shift();
    user.unrecorded.add(flight.position);
    user.next = flight.position + 1;
    user.attempts = 0;
    user.delivered++;
  }

  async #catchUp(userKey: string, user: User): Promise<void> {
    user.queue = await readUser(this.#sql, this.#slice, { userKey, from: user.next, limit: page });
    if (user.queue.length > 0 || !(await this.#record(userKey, user))) return;
    const cursor = await this.#cursorOf(user.lane);
    if (cursor < user.next - 1) return this.#letGo(userKey, user, user.attempts);
    user.seenCursor = cursor;
  }

  async #handBack(userKey: string, user: User, seenCursor: number): Promise<void> {
    const { feedId } = this.#slice;
    if (!user.isClear) {
      const [left] = await readUser(this.#sql, this.#slice, { userKey, from: user.next, limit: 1 });
      user.isClear = left === undefined || left.position > seenCursor;
      if (!user.isClear) user.seenCursor = null;
      return;
    }
    user.isClear = false;
    const hold = { feedId, userKey, owner: user.owner, lane: user.lane, seenCursor };
    user.seenCursor = await protocol.unparkUser(this.#sql, hold);
    if (user.seenCursor === null) this.users.delete(userKey);
  }

  async #record(userKey: string, user: User): Promise<boolean> {
    const hold = { feedId: this.#slice.feedId, userKey, owner: user.owner };
    const isOurs = await protocol.advanceUser(this.#sql, hold, {
      next: user.next,
      delivered: user.delivered,
    });
    if (isOurs) user.unrecorded = new Set();
    else this.dropUser(userKey);
    user.delivered = 0;
    return isOurs;
  }

  async #letGo(userKey: string, user: User, attempts: number): Promise<void> {
    const hold = { feedId: this.#slice.feedId, userKey, owner: user.owner };
    const done = { next: user.next, delivered: user.delivered, failed: { attempts } };
    if (await protocol.advanceUser(this.#sql, hold, done)) this.users.delete(userKey);
    else this.dropUser(userKey);
  }

  /**
   * After a silence: what was learned meanwhile may be written first, in vain if another has taken over; the heartbeat
   * finds out what is still its own before anything more is sent.
   */
  async wakeUp(): Promise<void> {
    this.isFrozen = false;
    const { feedId } = this.#slice;
    for (const lane of [...this.lanes.keys()]) if (this.#random() < 0.5) await this.writeLane(lane);
    for (const [userKey, { flight, isClear }] of [...this.users])
      if ((flight || isClear) && this.#random() < 0.5) await this.stepUser(userKey);
    for (const [lane, { run }] of [...this.lanes])
      if (!(await protocol.renew(this.#sql, { feedId, owner: run.owner, lane }))) this.dropLane(lane);
    for (const [userKey, { owner }] of [...this.users])
      if (!(await protocol.renew(this.#sql, { feedId, owner, userKey }))) this.dropUser(userKey);
  }

  /** As SIGTERM does: what is in flight ends and is recorded, lanes and users are let go, still awake. */
  async leave(): Promise<void> {
    for (const [lane, held] of [...this.lanes]) {
      while (held.flights.size > 0) this.#end(held);
      for (let writes = 0; writes < 3; writes++) await this.writeLane(lane);
      this.dropLane(lane);
      await protocol.releaseLane(
        this.#sql,
        { feedId: this.#slice.feedId, lane, owner: held.run.owner },
        true,
      );
    }
    for (const [userKey, user] of [...this.users]) {
      if (user.flight) await this.#endOfUser(userKey, user, user.flight);
      if (this.users.has(userKey)) await this.#letGo(userKey, user, user.attempts);
    }
  }

  dropLane(lane: number): void {
    const held = this.lanes.get(lane);
    this.lanes.delete(lane);
    if (!held) return;
    this.abandoned.push(held.run.owner);
    this.#forget(held.unrecorded, [...held.flights.values()]);
  }

  dropUser(userKey: string): void {
    const user = this.users.get(userKey);
    this.users.delete(userKey);
    if (!user) return;
    this.abandoned.push(user.owner);
    this.#forget(user.unrecorded, user.flight ? [user.flight] : []);
  }

  #forget(unrecorded: ReadonlySet<number>, flights: readonly Flight[]): void {
    this.forgotten.push(...unrecorded);
    for (const flight of flights) {
      this.#destination.end(flight);
      if (flight.arrived) this.forgotten.push(flight.position);
    }
  }

  #fly(userKey: string, position: number): Flight {
    const flight: Flight = { worker: this, userKey, position, succeeds: false, arrived: false };
    flight.succeeds = this.#destination.begin(flight);
    return flight;
  }

  async #cursorOf(lane: number): Promise<number> {
    const [row] = await this.#sql<{ cursor: number }[]>`
      select cursor from repeater.feed_lanes where feed_id = ${this.#slice.feedId} and lane = ${lane}`;
    return row?.cursor ?? 0;
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[Math.floor(this.#random() * items.length)] as Item;
  }
}
