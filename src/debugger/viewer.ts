/** One viewer's waiting frames. Bounded: past `mostBytes` the oldest go, and the viewer is told how many. */
import type { StoredEvent } from '../events/stored-event.ts';
import { matchesSelection, type Selection } from '../routing/selection.ts';

/** Frames to be sent, and how many were dropped before them. */
export interface Batch {
  readonly dropped: number;
  readonly frames: readonly string[];
}

const mostBytes = 512 * 1024;

export class Viewer {
  readonly #selection: Selection;
  /** Up to here it has everything already. */
  readonly #after: number;
  #waiting: string[] = [];
  #bytes = 0;
  #dropped = 0;
  #gate = Promise.withResolvers<void>();

  constructor(selection: Selection, after: number) {
    this.#selection = selection;
    this.#after = after;
  }

  wants(event: StoredEvent): boolean {
    return event.position > this.#after && matchesSelection(this.#selection, event);
  }

  hand(frame: string): void {
    this.#waiting.push(frame);
    this.#bytes += frame.length;
    while (this.#bytes > mostBytes && this.#waiting.length > 1) {
      this.#bytes -= this.#waiting.shift()?.length ?? 0;
      this.#dropped++;
    }
    this.wake();
  }

  /** What waits; null when nothing does. */
  take(): Batch | null {
    if (this.#waiting.length === 0) return null;
    const batch = { dropped: this.#dropped, frames: this.#waiting };
    this.#waiting = [];
    this.#bytes = 0;
    this.#dropped = 0;
    return batch;
  }

  /** Resolves at the next `hand` or `wake`, or at once when there was one since the last call. */
  async woken(): Promise<void> {
    await this.#gate.promise;
    this.#gate = Promise.withResolvers();
  }

  wake(): void {
    this.#gate.resolve();
  }
}
