/**
 * Group commit: concurrent requests are stored together and each is answered after the commit. One group is
 * under way; what comes meanwhile gathers into the next, so groups are as large as the load makes them and a lone
 * request waits for nobody. A second one under way would only wait for the ingest lock, and measured it gained nothing.
 */
import type { AcceptedEvent } from '../events/append.ts';
import type { RejectedEvent } from '../events/rejected.ts';
import { AppError, toError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { maxQueuedBytes, maxQueuedEvents } from './limits.ts';

/** A group is closed at either: the ingest lock is held for about 25 us an event. */
const maxGroupEvents = 1_000;
const maxGroupBytes = 4_194_304;

interface GroupCommitDeps {
  readonly append: (events: readonly AcceptedEvent[]) => Promise<readonly number[]>;
  readonly keepRejected: (rejected: readonly RejectedEvent[]) => Promise<void>;
  /** Lanes that got events, after their commit. */
  readonly appended: (lanes: readonly number[]) => void;
  readonly log: Log;
}

interface Pending {
  readonly events: readonly AcceptedEvent[];
  readonly rejected: readonly RejectedEvent[];
  readonly bytes: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export interface GroupCommit {
  /**
   * Resolves when the events (and the rejected ones) are committed.
   * @throws AppError overloaded when too much is waiting, storage_unavailable when Postgres did not take it.
   */
  store(events: readonly AcceptedEvent[], rejected: readonly RejectedEvent[]): Promise<void>;
  /** Resolves when everything taken so far has been answered. */
  drain(): Promise<void>;
}

export function createGroupCommit(deps: GroupCommitDeps): GroupCommit {
  const queue = new Backlog();
  let isUnderWay = false;
  let drained: (() => void)[] = [];

  const commit = async (group: readonly Pending[]): Promise<void> => {
    const rejected = group.flatMap((pending) => pending.rejected);
    const events = withoutRepeats(
      group.length === 1 ? (group[0] as Pending).events : group.flatMap((pending) => pending.events),
    );
    if (rejected.length > 0) await deps.keepRejected(rejected);
    if (events.length > 0) deps.appended(await deps.append(events));
  };

  const storageError = (error: unknown): AppError => {
    deps.log.error({ err: toError(error) }, 'storing events failed');
    return new AppError('storage_unavailable', { retryAfterSeconds: 1, cause: error });
  };

  const run = async (): Promise<void> => {
    while (queue.length > 0) {
      const group = queue.takeGroup();
      const failure = await commit(group).then(() => null, storageError);
      const answer = () => {
        for (const pending of group) {
          if (failure) pending.reject(failure);
          else pending.resolve();
        }
      };
      // The next group goes out first: Postgres works on it while these answers are written.
      if (queue.length > 0) setImmediate(answer);
      else answer();
    }
  };

  const start = () => {
    if (isUnderWay) return;
    isUnderWay = true;
    void run().finally(() => {
      isUnderWay = false;
      if (queue.length > 0) return start();
      for (const resolve of drained) resolve();
      drained = [];
    });
  };

  return {
    store(events, rejected) {
      const bytes = events.reduce((sum, event) => sum + event.text.length, 0);
      if (!queue.hasRoom(events.length, bytes)) {
        return Promise.reject(new AppError('overloaded', { retryAfterSeconds: 1 }));
      }
      return new Promise((resolve, reject) => {
        queue.push({ events, rejected, bytes, resolve, reject });
        // On the next turn: requests that arrived together go together.
        setImmediate(start);
      });
    },
    drain() {
      if (!isUnderWay && queue.length === 0) return Promise.resolve();
      return new Promise((resolve) => drained.push(resolve));
    },
  };
}

/** Requests that wait for their group, with what they amount to. */
class Backlog {
  #pending: Pending[] = [];
  #events = 0;
  #bytes = 0;

  get length(): number {
    return this.#pending.length;
  }

  hasRoom(events: number, bytes: number): boolean {
    return this.#events + events <= maxQueuedEvents && this.#bytes + bytes <= maxQueuedBytes;
  }

  push(pending: Pending): void {
    this.#pending.push(pending);
    this.#events += pending.events.length;
    this.#bytes += pending.bytes;
  }

  takeGroup(): Pending[] {
    let events = 0;
    let bytes = 0;
    let count = 0;
    for (const pending of this.#pending) {
      const isFull = events + pending.events.length > maxGroupEvents || bytes + pending.bytes > maxGroupBytes;
      if (count > 0 && isFull) break;
      events += pending.events.length;
      bytes += pending.bytes;
      count++;
    }
    this.#events -= events;
    this.#bytes -= bytes;
    return this.#pending.splice(0, count);
  }
}

/** Within one group the first of several events with the same id is stored; the rest are answered like it. */
function withoutRepeats(events: readonly AcceptedEvent[]): readonly AcceptedEvent[] {
  const seen = new Set<string>();
  return events.filter((event) => {
    const key = `${event.sourceId}:${event.messageId}`;
    return seen.has(key) ? false : (seen.add(key), true);
  });
}
