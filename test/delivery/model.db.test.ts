/**
 * Random histories over the real statements: appends, take-overs, failures, parked users, lost answers, workers that
 * freeze and come back, workers that die between any two steps. Whatever happens, a user's events are attempted one
 * after the other, the cursor passes nothing that has not ended, nothing is sent twice without a reason, and in the
 * end the wake-ups of the database suffice to deliver everything.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { openPool, type Sql } from '../../src/db/client.ts';
import { laneOf } from '../../src/lib/ids.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { appendFor, createLiveFeed, keyOf, laneOfUser, neighbours } from '../support/feeds.ts';
import * as protocol from '../support/lane-protocol.ts';
import { type Destination, type Flight, ModelWorker } from '../support/model-worker.ts';
import { chooseSeed, createRandom, type Random } from '../support/senders.ts';

const histories = 40;
const steps = 500;
const users = [...neighbours(2, 'ann'), ...neighbours(2, 'bob')];
const lanes = [...new Set(users.map(laneOfUser))];

let database: TestDatabase;
let sql: Sql;

before(async () => {
  database = await createTestDatabase();
  sql = openPool(database.url, 'delivery');
});
after(async () => {
  await sql.end();
  await database.drop();
});

class World implements Destination {
  readonly feedId: number;
  readonly random: Random;
  readonly log: string[] = [];
  workers: ModelWorker[];
  /** Of every event the users have; how often it was delivered. */
  readonly deliveries = new Map<number, number>();
  readonly #positions = new Map<string, number[]>();
  readonly #flights = new Set<Flight>();
  /** Deliveries that a worker has forgotten, by position. */
  readonly #repeatable = new Map<number, number>();
  #born = 0;
  #failureRate = 0.3;

  constructor(feedId: number, random: Random) {
    this.feedId = feedId;
    this.random = random;
    this.workers = [this.#newWorker(), this.#newWorker()];
  }

  #newWorker(): ModelWorker {
    const { feedId, random } = this;
    return new ModelWorker(`w${++this.#born}`, { sql, feedId, destination: this, random });
  }

  begin(flight: Flight): boolean {
    const { userKey, position, worker } = flight;
    this.log.push(`${worker.name} sends ${position} of ${userKey}`);
    assert.ok(!worker.isFrozen);
    for (const earlier of this.#positions.get(userKey) ?? []) {
      if (earlier >= position) break;
      assert.ok(
        this.deliveries.get(earlier),
        `${position} of ${userKey} is sent before ${earlier} has ended`,
      );
    }
    for (const other of this.#flights) {
      if (other.userKey !== userKey || other.worker.isFrozen) continue;
      assert.fail(`${position} of ${userKey} is sent while ${other.position} is in flight`);
    }
    this.#flights.add(flight);
    flight.succeeds = this.random() >= this.#failureRate;
    if (this.random() < 0.5) this.#arrive(flight);
    return flight.succeeds;
  }

  end(flight: Flight): void {
    this.#arrive(flight);
    this.#flights.delete(flight);
  }

  #arrive(flight: Flight): void {
    if (flight.arrived || !flight.succeeds) return;
    flight.arrived = true;
    this.#settle();
    const count = this.deliveries.get(flight.position) ?? 0;
    this.deliveries.set(flight.position, count + 1);
    if (count === 0) return;
    const excused = this.#repeatable.get(flight.position) ?? 0;
    assert.ok(excused > 0, `${flight.position} is sent again though nobody has forgotten it`);
    this.#repeatable.set(flight.position, excused - 1);
  }

  /** What workers forgot may be sent again. */
  #settle(): void {
    for (const { forgotten } of [...this.workers, ...this.#gone])
      for (const position of forgotten.splice(0))
        this.#repeatable.set(position, (this.#repeatable.get(position) ?? 0) + 1);
  }

  readonly #gone: ModelWorker[] = [];

  /** One thing happens, mostly a step of a worker with what it has: that is where the races are. */
  async step(): Promise<void> {
    const worker = this.#pick(this.workers);
    const draw = this.random();
    if (draw < 0.12) return this.append();
    if (draw < 0.13) return void (await sql`select repeater.sweep(null)`);
    if (draw < 0.135) return this.#kill(worker);
    if (draw < 0.145) return this.#freeze(worker);
    if (draw < 0.16) return this.#expire();
    const awake = this.workers.filter(({ isFrozen }) => !isFrozen);
    if (awake.length === 0 || draw < 0.18) return worker.wakeUp();
    const able = this.#pick(awake);
    if (draw < 0.183) return able.leave();
    if (draw < 0.2) return able.writeLane(this.#pick(lanes), true);
    if (draw < 0.22) return able.lastLook();
    if (draw < 0.24) return able.takeLane(this.#pick(lanes));
    if (draw < 0.3) return able.takeUser(keyOf(this.#pick(users)));
    if (draw < 0.315) return this.#takeOver(able);
    if (draw < 0.335) return this.#passWhileHandingBack();
    return this.#work();
  }

  /** Any worker goes on with anything it has. */
  async #work(): Promise<void> {
    const awake = this.workers.filter(({ isFrozen }) => !isFrozen);
    const able = this.#pick(awake);
    const tasks = awake.flatMap((each) => [
      ...[...each.lanes.keys()].map((lane) => () => each.stepLane(lane)),
      ...[...each.users.keys()].map((userKey) => () => each.stepUser(userKey)),
    ]);
    return this.#pick([...tasks, () => able.takeLane(this.#pick(lanes))])();
  }

  /** A worker falls silent for too long, another has what it had and gets some way with it, then it comes back. */
  async #takeOver(silent: ModelWorker): Promise<void> {
    const had = { lanes: [...silent.lanes.keys()], users: [...silent.users.keys()] };
    this.#freeze(silent);
    await this.#expire();
    const [heir] = this.workers.filter(({ isFrozen }) => !isFrozen);
    if (heir) {
      for (const lane of had.lanes) await heir.takeLane(lane);
      for (const userKey of had.users) await heir.takeUser(userKey);
      for (let count = Math.floor(this.random() * 15); count > 0; count--) await this.#work();
    }
    await silent.wakeUp();
  }

  /** A user is about to be handed back, and just then its lane gets another of its events, and perhaps passes it. */
  async #passWhileHandingBack(): Promise<void> {
    const able = this.#pick(this.workers.filter(({ isFrozen }) => !isFrozen));
    const parked = await sql<{ key: string }[]>`
      select user_key as key from repeater.parked_users where feed_id = ${this.feedId} order by key`;
    const userKey = this.#pick([...parked.map(({ key }) => key), keyOf('nobody')]);
    const lane = laneOf(userKey);
    await able.takeLane(lane);
    const holder = this.workers.find((each) => !each.isFrozen && each.lanes.has(lane)) ?? able;
    for (let count = 0; count < 40; count++) await holder.stepLane(lane);
    await able.takeUser(userKey);
    const returning = this.workers.find((each) => !each.isFrozen && each.users.has(userKey)) ?? able;
    for (let count = 0; count < 40 && returning.users.get(userKey)?.isClear === false; count++)
      await returning.stepUser(userKey);
    if (!returning.users.get(userKey)?.isClear) return;
    await this.append({ isWoken: true, of: userKey });
    for (let count = Math.floor(this.random() * 30); count > 0; count--) await holder.stepLane(lane);
    await returning.stepUser(userKey);
    for (let count = Math.floor(this.random() * 12); count > 0; count--) await holder.stepLane(lane);
  }

  async append(
    { isWoken, of }: { isWoken: boolean; of?: string } = { isWoken: this.random() < 0.8 },
  ): Promise<void> {
    const user = users.find((each) => keyOf(each) === of);
    const chosen = user
      ? [user]
      : Array.from({ length: 1 + Math.floor(this.random() * 2) }, () => this.#pick(users));
    const positions = await appendFor(sql, ...chosen);
    chosen.forEach((user, index) => {
      const key = keyOf(user);
      this.#positions.set(key, [...(this.#positions.get(key) ?? []), positions[index] as number]);
    });
    if (isWoken) await sql`select repeater.wake_lanes(${chosen.map(laneOfUser)}::smallint[])`;
  }

  #kill(worker: ModelWorker): void {
    this.log.push(`${worker.name} dies`);
    // What was under way may have arrived, or never will.
    for (const flight of worker.flights) if (this.random() < 0.5) flight.succeeds = false;
    for (const lane of worker.lanes.keys()) worker.dropLane(lane);
    for (const userKey of worker.users.keys()) worker.dropUser(userKey);
    this.#gone.push(worker);
    this.workers = this.workers.map((each) => (each === worker ? this.#newWorker() : each));
  }

  #freeze(worker: ModelWorker): void {
    this.log.push(`${worker.name} freezes`);
    // A frozen worker's calls arrive all the same; it learns of their ends when it comes back.
    for (const flight of worker.flights) this.#arrive(flight);
    worker.isFrozen = true;
  }

  async #expire(): Promise<void> {
    const frozen = this.workers.filter(({ isFrozen }) => isFrozen);
    const abandoned = [...this.workers, ...this.#gone].flatMap((worker) => worker.abandoned.splice(0));
    const owners = [...abandoned, ...frozen.flatMap((worker) => worker.owners)];
    // A lane whose lease runs out may be had by another: what its old owner delivered is sent again.
    for (const { lanes: held, users: parked, forgotten } of frozen) {
      for (const { unrecorded, flights } of held.values())
        forgotten.push(
          ...unrecorded,
          ...[...flights.values()].filter(({ arrived }) => arrived).map(({ position }) => position),
        );
      for (const { unrecorded, flight } of parked.values())
        forgotten.push(...unrecorded, ...(flight?.arrived ? [flight.position] : []));
    }
    await protocol.expireLeases(sql, ...owners);
  }

  /** Behind a cursor there is only what has ended and what a parked user's worker will still send. */
  async check(): Promise<void> {
    const cursors = await sql<{ lane: number; cursor: number }[]>`
      select lane, cursor from repeater.feed_lanes where feed_id = ${this.feedId} and lane = any(${lanes}::smallint[])`;
    const parked = await sql<{ key: string; from: number }[]>`
      select user_key as key, from_position as "from" from repeater.parked_users where feed_id = ${this.feedId}`;
    for (const [userKey, positions] of this.#positions) {
      const cursor = cursors.find(({ lane }) => lane === laneOf(userKey))?.cursor ?? 0;
      const from = parked.find(({ key }) => key === userKey)?.from ?? Infinity;
      for (const position of positions) {
        const isSafe = position > cursor || position >= from || this.deliveries.get(position);
        assert.ok(isSafe, `the cursor ${cursor} has passed ${position} of ${userKey}, parked from ${from}`);
      }
    }
  }

  /** Nothing fails any more: with nothing but the sweep and the jobs everything is delivered, and recorded once. */
  async finish(): Promise<void> {
    this.#failureRate = 0;
    for (const worker of this.workers) this.#kill(worker);
    await this.#drain();
    await this.append({ isWoken: false });
    await this.#drain();
    const [row] = await sql<{ delivered: number }[]>`
      select sum(delivered)::bigint as delivered from repeater.feed_lanes where feed_id = ${this.feedId}`;
    assert.equal(row?.delivered, this.deliveries.size, 'each event counts once');
  }

  async #drain(): Promise<void> {
    const [worker] = this.workers as [ModelWorker];
    for (let rounds = 0; rounds < 2 || this.#missing().length > 0; rounds++) {
      assert.ok(rounds < 20, `never delivered: ${this.#missing().join(', ')}`);
      await this.#expire();
      await sql`update repeater.parked_users set next_attempt_at = clock_timestamp() - interval '2 seconds'
        where feed_id = ${this.feedId} and state = 'retry'`;
      await sql`select repeater.sweep(null)`;
      const jobs = await protocol.waitingJobs(sql);
      await protocol.forgetJobs(sql);
      for (const job of jobs) {
        const [, key] = /^\d+:(.*)$/s.exec(job) as unknown as [string, string];
        if (/^\d+$/.test(key)) await worker.takeLane(Number(key));
        else await worker.takeUser(key);
      }
      for (let turn = 0; turn < 500 && worker.lanes.size + worker.users.size > 0; turn++) {
        for (const lane of [...worker.lanes.keys()]) await worker.stepLane(lane);
        for (const userKey of [...worker.users.keys()]) await worker.stepUser(userKey);
      }
      await this.check();
    }
  }

  #missing(): number[] {
    return [...this.#positions.values()].flat().filter((position) => !this.deliveries.get(position));
  }

  #pick<Item>(items: readonly Item[]): Item {
    return items[Math.floor(this.random() * items.length)] as Item;
  }
}

test('random histories keep every order and lose nothing', async (context) => {
  const seed = chooseSeed();
  let events = 0;
  let repeats = 0;
  for (let history = 0; history < histories; history++) {
    const { feedId } = await createLiveFeed(sql);
    const world = new World(feedId, createRandom(seed + history));
    try {
      for (let step = 0; step < steps; step++) {
        await world.step();
        if (step % 10 === 0) await world.check();
      }
      await world.finish();
      await world.check();
    } catch (error) {
      console.log(`history ${history}:\n${world.log.slice(-40).join('\n')}`);
      throw error;
    }
    events += world.deliveries.size;
    repeats += [...world.deliveries.values()].reduce((sum, count) => sum + count - 1, 0);
    await sql`update repeater.feeds set state = 'cancelled', finished_at = now() where id = ${feedId}`;
    await protocol.forgetJobs(sql);
  }
  context.diagnostic(`${histories} histories, ${events} events, ${repeats} sent again after a crash`);
  assert.ok(events > histories * 20 && repeats > 0, 'the histories were worth something');
});
