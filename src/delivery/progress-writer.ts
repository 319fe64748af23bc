/**
 * Records what all lanes of this process have achieved, in one statement, about every 50 ms or every 100
 * events a lane. One write is under way at a time: the next one starts from the cursor this one wrote. The
 * time between two writes bounds what is sent again after a crash.
 */
import type { Sql } from '../db/client.ts';
import type { Log } from '../lib/log.ts';
import type { FeedRun } from './feed-run.ts';
import type { DeadLetter, LaneRun, Park } from './lane-run.ts';
import type { Progress } from './lane-window.ts';

const writeEveryMs = 50;
const eventsPerLaneWrite = 100;
/** Nothing more is sent while so many ended events of this process are not recorded: a slow database must not raise the number of repeats. */
const maxUnrecorded = 8_192;

interface ProgressWriterDeps {
  readonly sql: Sql;
  readonly log: Log;
  readonly leaseMs: number;
  readonly runs: () => Iterable<FeedRun>;
  /** A lane has another owner. */
  readonly lost: (run: FeedRun, lane: LaneRun) => void;
  /** A write went through: lanes may have become idle. */
  readonly written: () => void;
}

interface LaneWrite {
  readonly run: FeedRun;
  readonly lane: LaneRun;
  readonly progress: Progress;
  /** Users whose skipped events the new cursor passes, and who must still be parked. */
  readonly skips: readonly string[];
  readonly parks: readonly Park[];
  readonly deads: readonly DeadLetter[];
}

interface ResultRow {
  n: number;
  result: 'moved' | 'unparked' | 'lost';
  version: number;
  waiting: string[] | null;
}

export class ProgressWriter {
  readonly #deps: ProgressWriterDeps;
  #timer: NodeJS.Timeout | null = null;
  #writing: Promise<boolean> | null = null;
  #failures = 0;
  /** Events that ended since the last write that went through began. */
  #unrecorded = 0;
  /** What was sent without an answer, with the events it records: written or not, so it is sent again as it was. */
  #unanswered: { readonly writes: readonly LaneWrite[]; readonly events: number } | null = null;
  #writeAt = eventsPerLaneWrite;

  constructor(deps: ProgressWriterDeps) {
    this.#deps = deps;
  }

  /** True while so much is unrecorded that nothing more should be sent. */
  get isBehind(): boolean {
    return this.#unrecorded >= maxUnrecorded;
  }

  /** Something can be recorded: an event has ended or a user is to be parked. Called for every event. */
  progressed(): void {
    this.#unrecorded++;
    if (this.#writing || this.#failures > 0) return;
    if (this.#unrecorded >= this.#writeAt) void this.write();
    else if (!this.#timer) this.#later(writeEveryMs);
  }

  /** Records everything that can be recorded now. False: that failed, and is tried again later. */
  async write(): Promise<boolean> {
    while (this.#writing) await this.#writing;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    const events = this.#unanswered?.events ?? this.#unrecorded;
    this.#writing = this.#writeOnce(events);
    const written = await this.#writing;
    this.#writing = null;
    if (!written) {
      this.#later(Math.min(1_000, writeEveryMs * 2 ** this.#failures));
      return false;
    }
    this.#unrecorded -= events;
    if (this.#unrecorded > 0) this.#later(writeEveryMs);
    this.#deps.written();
    return true;
  }

  /** False when the write failed and must be tried again. */
  async #writeOnce(events: number): Promise<boolean> {
    const writes = this.#unanswered?.writes.filter(({ lane }) => !lane.lost) ?? this.#collect();
    this.#unanswered = null;
    this.#writeAt = eventsPerLaneWrite * Math.max(1, writes.length);
    if (writes.length === 0) {
      this.#failures = 0;
      return true;
    }
    try {
      const rows = await this.#send(writes);
      this.#failures = 0;
      for (const row of rows) this.#apply(writes[row.n - 1] as LaneWrite, row);
      return true;
    } catch (error) {
      this.#failures++;
      this.#unanswered = { writes, events };
      this.#deps.log.warn(
        { err: error, failures: this.#failures },
        'recording delivery progress failed; trying again',
      );
      return false;
    }
  }

  #collect(): LaneWrite[] {
    const writes: LaneWrite[] = [];
    for (const run of this.#deps.runs()) {
      for (const lane of run.lanes.values()) {
        if (lane.lost) continue;
        const progress = lane.progress(lane.parks.size > 0);
        if (!progress) continue;
        const skips = progress.skippedUsers.filter((userKey) => !lane.parks.has(userKey));
        writes.push({ run, lane, progress, skips, parks: [...lane.parks.values()], deads: [...lane.deads] });
      }
    }
    return writes;
  }

  #send(writes: readonly LaneWrite[]): Promise<ResultRow[]> {
    const skips = writes.flatMap((write, index) => write.skips.map((userKey) => ({ n: index + 1, userKey })));
    const parks = writes.flatMap((write, index) => write.parks.map((park) => ({ n: index + 1, ...park })));
    const deads = writes.flatMap((write, index) => write.deads.map((dead) => ({ n: index + 1, ...dead })));
    const column = <Value>(pick: (write: LaneWrite) => Value) => writes.map(pick);
    const json = (list: readonly unknown[]) => (list.length === 0 ? null : JSON.stringify(list));
    return this.#deps.sql<ResultRow[]>`
      select * from repeater.advance_lanes(
        ${column((w) => w.run.feed.id)}::integer[], ${column((w) => w.lane.lane)}::smallint[],
        ${column((w) => w.lane.owner)}::text[], ${column((w) => w.progress.from)}::bigint[],
        ${column((w) => w.progress.to)}::bigint[], ${column((w) => `{${w.progress.endedAbove.join(',')}}`)}::text[],
        ${column((w) => w.lane.parkedVersion)}::integer[], ${column((w) => w.lane.revision)}::bigint[],
        ${column((w) => w.progress.delivered)}::integer[],
        ${column((w) => w.progress.dead)}::integer[], ${column((w) => w.progress.filtered)}::integer[],
        ${json(skips)}::text::json, ${json(parks)}::text::json, ${json(deads)}::text::json,
        make_interval(secs => ${this.#deps.leaseMs / 1_000}))`;
  }

  #apply(write: LaneWrite, row: ResultRow): void {
    const { run, lane } = write;
    if (row.result === 'lost') return this.#deps.lost(run, lane);
    if (row.result === 'moved') {
      lane.revision++;
      lane.confirm(write.progress);
      for (const park of write.parks) lane.parks.delete(park.userKey);
      lane.deads.splice(0, write.deads.length);
    }
    lane.parkedVersion = row.version;
    if (row.waiting) run.lineUp(lane.setParked(row.waiting, new Set(lane.parks.keys())));
  }

  #later(delayMs: number): void {
    if (this.#timer) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      void this.write();
    }, delayMs);
    this.#timer.unref();
  }
}
