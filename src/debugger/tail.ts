/**
 * New events as they are accepted, for any number of viewers from one reader: while somebody looks, the log
 * is read once every 100 ms, however many they are. A viewer that resumes reads what it missed by itself and
 * joins when it has caught up, so nothing is lost or repeated. One that does not keep up loses its oldest
 * waiting events and is told how many (viewer.ts). Ingest notices nobody.
 */
import { setImmediate as turn, setTimeout as sleep } from 'node:timers/promises';
import type { Sql } from '../db/client.ts';
import { newestPosition, readRange } from '../events/read-range.ts';
import type { StoredEvent } from '../events/stored-event.ts';
import { AppError } from '../lib/errors.ts';
import { type Selection, selectionCondition } from '../routing/selection.ts';
import { type Batch, Viewer } from './viewer.ts';

export interface TailDeps {
  readonly sql: Sql;
  /** What a viewer is sent for an event; made once, shared by all. */
  readonly frameOf: (event: StoredEvent) => string;
  /** A failed read of the log; reading goes on a second later. */
  readonly onError: (error: unknown) => void;
}

export interface ViewRequest {
  readonly selection: Selection;
  /** Resume after this position; null: only what is accepted from now on. */
  readonly after: number | null;
  /** Aborts when the viewer left. */
  readonly signal: AbortSignal;
}

export interface Tail {
  /** Batches until the viewer leaves or the tail is closed. @throws AppError rate_limited when too many look */
  open(request: ViewRequest): AsyncGenerator<Batch>;
  /** Ends every view. */
  close(): void;
}

const pollMs = 100;
const pauseAfterErrorMs = 1000;
const pageLength = 500;
const mostViewers = 200;
const mostInOneTurn = 128 * 1024;

/** Makes a tail; it reads only while it has viewers. */
export function createTail(deps: TailDeps): Tail {
  return new LogTail(deps);
}

class LogTail implements Tail {
  readonly #deps: TailDeps;
  readonly #ending = new AbortController();
  readonly #viewers = new Set<Viewer>();
  /** Viewers, with those that still catch up. */
  #looking = 0;
  /** Newest position handed out. Moves in the same turn in which the event is handed to the viewers. */
  #position = 0;
  #polling = false;

  constructor(deps: TailDeps) {
    this.#deps = deps;
  }

  open(request: ViewRequest): AsyncGenerator<Batch> {
    if (this.#looking < mostViewers) return this.#view(request);
    throw new AppError('rate_limited', { message: `${mostViewers} viewers are looking already.` });
  }

  close(): void {
    this.#ending.abort();
  }

  async *#view({ selection, after, signal: left }: ViewRequest): AsyncGenerator<Batch> {
    const { sql, frameOf } = this.#deps;
    const signal = AbortSignal.any([left, this.#ending.signal]);
    let viewer: Viewer | undefined;
    this.#looking++;
    try {
      const newest = await newestPosition(sql);
      // Without viewers nobody moves the shared position; it may be from long ago.
      if (this.#viewers.size === 0) this.#moveTo(newest);
      let seen = Math.min(after ?? newest, newest);
      while (seen < this.#position && !signal.aborted) {
        const upTo = this.#position;
        const range = { after: seen, upTo, limit: pageLength, ...filterOf(sql, selection) };
        const events = await readRange(sql, range);
        seen = endOf(events, upTo);
        if (events.length > 0) yield { dropped: 0, frames: events.map(frameOf) };
      }
      // No await between the last look at the shared position and joining, else events would fall between.
      viewer = this.#join(selection, seen);
      signal.addEventListener('abort', () => viewer?.wake(), { once: true });
      while (!signal.aborted) {
        const batch = viewer.take();
        if (batch) yield batch;
        else await viewer.woken();
      }
    } finally {
      if (viewer) this.#viewers.delete(viewer);
      this.#looking--;
    }
  }

  #join(selection: Selection, seen: number): Viewer {
    const viewer = new Viewer(selection, seen);
    this.#viewers.add(viewer);
    if (!this.#polling) void this.#poll();
    return viewer;
  }

  async #poll(): Promise<void> {
    this.#polling = true;
    while (this.#viewers.size > 0 && !this.#ending.signal.aborted) {
      try {
        await this.#readNew();
        await pause(pollMs, this.#ending.signal);
      } catch (error) {
        this.#deps.onError(error);
        await pause(pauseAfterErrorMs, this.#ending.signal);
      }
    }
    this.#polling = false;
  }

  async #readNew(): Promise<void> {
    const { sql } = this.#deps;
    const newest = await newestPosition(sql);
    while (this.#position < newest && this.#viewers.size > 0) {
      const events = await readRange(sql, { after: this.#position, upTo: newest, limit: pageLength });
      let handed = 0;
      for (const event of events) {
        handed += this.#handOut(event);
        this.#moveTo(event.position);
        // Lets viewers send what they have: a burst alone must not overflow one that keeps up.
        if (handed > mostInOneTurn) handed = await turn(0);
      }
      this.#moveTo(endOf(events, newest));
    }
  }

  /** Returns the size of what each viewer that wants the event was handed. */
  #handOut(event: StoredEvent): number {
    let frame: string | undefined;
    for (const viewer of this.#viewers) {
      if (viewer.wants(event)) viewer.hand((frame ??= this.#deps.frameOf(event)));
    }
    return frame?.length ?? 0;
  }

  /** Never back: the first viewer after a quiet time may have moved it further while a page was read. */
  #moveTo(reached: number): void {
    this.#position = Math.max(this.#position, reached);
  }
}

function filterOf(sql: Sql, selection: Selection) {
  return { condition: selectionCondition(sql, selection), indexed: selection.userIds !== undefined };
}

/** How far a page has read: a short one up to its bound. */
function endOf(events: readonly StoredEvent[], upTo: number): number {
  return events.length < pageLength ? upTo : (events.at(-1)?.position ?? upTo);
}

/** Sleeps; returns early when the signal aborts. */
async function pause(ms: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal });
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
