/**
 * Everything that goes to one destination from this process, whatever feed it belongs to: users side by
 * side, each in sequence, first come first served, within the destination's limits. Live events go before
 * replays, which get at most half the calls while live events flow. A destination that fails as a whole
 * opens its circuit: then nothing is parked, one probe goes out at a time.
 */
import type {
  DestinationContext,
  DestinationDefinition,
  DeliverableEvent,
  Outcome,
} from '../destinations/definition.ts';
import { Queue } from '../lib/queue.ts';
import { Circuit } from './circuit.ts';
import { outcomeOfError } from './outcome.ts';
import { createRedaction } from './redact.ts';
import type { Requester } from './request.ts';

/** One event to send, and who wants to know what became of it. */
export interface Task {
  readonly event: DeliverableEvent;
  /** Called once: with what became of the attempt, or with `stopped` when there was none or it was given up. */
  ended(outcome: Outcome): void;
}

/** An attempt for a parked user. */
export interface RetryTask extends Task {
  readonly replayId: string | null;
  /** True when nobody may send it any more. */
  isStale(): boolean;
}

/** Not an outcome of the destination: delivery was stopped before the attempt had begun or ended. */
export const stopped: Outcome = { kind: 'retry', reason: 'Delivery was stopped.' };

/** Where a feed's tasks wait for their turn. */
export interface Lineup {
  readonly kind: 'live' | 'replay';
  /** Public id of the replay, null for live. */
  readonly replayId: string | null;
  /** The next task that may be sent, or undefined; false when the feed's rate allows none now. */
  readonly next: () => Task | undefined;
}

export interface OutletSettings {
  readonly definition: DestinationDefinition;
  readonly settings: Readonly<Record<string, unknown>>;
  readonly concurrency: number;
  /** For one whole call, where the customer chose it; absent: the request's own, else the type's. */
  readonly timeoutMs?: number;
  /** Never recorded, whatever the destination answers; see redact.ts. */
  readonly secrets: readonly string[];
}

export interface DispatcherDeps {
  readonly request: Requester['request'];
  /** False while the leases of this process are not known to be good: nothing new is sent then. */
  readonly maySend: () => boolean;
}

export class Dispatcher {
  readonly circuit = new Circuit();
  inFlight = 0;
  readonly #deps: DispatcherDeps;
  readonly #abort = new AbortController();
  readonly #lineups: Lineup[] = [];
  readonly #retries = new Queue<RetryTask>();
  #replaysInFlight = 0;
  #liveInFlight = 0;
  #turn = 0;
  #timer: NodeJS.Timeout | null = null;
  #outlet: OutletSettings;
  #redact: ReturnType<typeof createRedaction>;

  constructor(outlet: OutletSettings, deps: DispatcherDeps) {
    this.#outlet = outlet;
    this.#redact = createRedaction(outlet.secrets);
    this.#deps = deps;
  }

  /** New settings hold from the next call on. */
  update(outlet: OutletSettings): void {
    this.#outlet = outlet;
    this.#redact = createRedaction(outlet.secrets);
  }

  attach(lineup: Lineup): void {
    this.#lineups.push(lineup);
  }

  detach(lineup: Lineup): void {
    const index = this.#lineups.indexOf(lineup);
    if (index >= 0) this.#lineups.splice(index, 1);
  }

  /** An attempt for a parked user; it goes before what waits in the lanes. */
  retry(task: RetryTask): void {
    this.#retries.push(task);
    this.pump();
  }

  /** Ends, unsent, the attempts for parked users that have become stale. */
  dropStaleRetries(): void {
    for (let count = this.#retries.length; count > 0; count--) {
      const task = this.#retries.shift() as RetryTask;
      if (task.isStale()) task.ended(stopped);
      else this.#retries.push(task);
    }
  }

  /** True when a failed call says more about the destination than about its user. */
  get isFailing(): boolean {
    return this.circuit.state(Date.now()) !== 'closed';
  }

  /**
   * Whether the event of a failed call should wait in its lane, unparked: the destination as a whole is failing.
   * Not if it was told when to come back, unless everything waits until then: the next probe would be too early.
   */
  keepsInLine({ retryAfterMs }: { readonly retryAfterMs?: number }): boolean {
    if (!this.isFailing) return false;
    return retryAfterMs === undefined || this.circuit.isHeldFor(retryAfterMs, Date.now());
  }

  /** Starts as many calls as the limits allow. Cheap when there is nothing to do. */
  pump(): void {
    if (!this.#deps.maySend()) return;
    const now = Date.now();
    const limit = this.#outlet.concurrency;
    const capacity = this.circuit.capacity(now, limit);
    while (this.inFlight < capacity) {
      const retry = this.#retries.shift();
      if (retry !== undefined) {
        if (retry.isStale()) retry.ended(stopped);
        else this.#start(retry, retry.replayId, null);
        continue;
      }
      if (!this.#startNext(limit)) return;
    }
    if (capacity < limit) this.#pumpLater(now);
  }

  /** Gives up what is in flight (their outcomes are network errors) and sends nothing any more. */
  close(): void {
    this.#abort.abort();
    if (this.#timer) clearTimeout(this.#timer);
  }

  /** The client as a destination gets it: with its time limit, given up by `close`. */
  readonly #request: DestinationContext['request'] = (request) => {
    const { definition, timeoutMs = request.timeoutMs ?? definition.limits.timeoutMs } = this.#outlet;
    const limited = timeoutMs === request.timeoutMs ? request : { ...request, timeoutMs };
    return this.#deps.request(limited, this.#abort.signal);
  };

  /** Live first, then the replays in turn. */
  #startNext(limit: number): boolean {
    const lineups = this.#lineups;
    for (const lineup of lineups) {
      if (lineup.kind !== 'live') continue;
      const task = lineup.next();
      if (task !== undefined) return this.#start(task, null, lineup);
    }
    const replayLimit = this.#liveInFlight > 0 ? Math.max(1, limit >> 1) : limit;
    if (this.#replaysInFlight >= replayLimit) return false;
    for (let count = 0; count < lineups.length; count++) {
      const lineup = lineups[(this.#turn + count) % lineups.length] as Lineup;
      if (lineup.kind !== 'replay') continue;
      const task = lineup.next();
      if (task === undefined) continue;
      this.#turn = (this.#turn + count + 1) % lineups.length;
      return this.#start(task, lineup.replayId, lineup);
    }
    return false;
  }

  #start(task: Task, replayId: string | null, lineup: Lineup | null): true {
    const { definition, settings } = this.#outlet;
    this.inFlight++;
    if (lineup?.kind === 'live') this.#liveInFlight++;
    else if (lineup) this.#replaysInFlight++;
    const finish = (result: Outcome) => {
      // Given up by `close`, not failed by the destination.
      const outcome = result.kind === 'retry' && this.#abort.signal.aborted ? stopped : result;
      this.inFlight--;
      if (lineup?.kind === 'live') this.#liveInFlight--;
      else if (lineup) this.#replaysInFlight--;
      if (outcome !== stopped) this.#record(task, outcome);
      task.ended(outcome.kind === 'delivered' || outcome === stopped ? outcome : this.#redact(outcome));
      this.pump();
    };
    let sent: Promise<readonly Outcome[]>;
    try {
      sent = definition.send([task.event], {
        settings,
        request: this.#request,
        signal: this.#abort.signal,
        attemptAt: Date.now(),
        replayId,
      });
    } catch (error) {
      queueMicrotask(() => finish(outcomeOfError(error)));
      return true;
    }
    sent.then(
      (outcomes) => finish(outcomes[0] ?? { kind: 'retry', reason: 'The destination gave no outcome.' }),
      (error: unknown) => finish(outcomeOfError(error)),
    );
    return true;
  }

  #record(task: Task, outcome: Outcome): void {
    const kind =
      outcome.kind === 'delivered'
        ? 'ok'
        : outcome.kind === 'rejected'
          ? 'refused'
          : outcome.retryAfterMs === undefined
            ? 'failed'
            : 'throttled';
    const retryAfterMs = outcome.kind === 'retry' ? outcome.retryAfterMs : undefined;
    this.circuit.record(
      { userKey: task.event.userKey, kind, ...(retryAfterMs === undefined ? {} : { retryAfterMs }) },
      Date.now(),
    );
  }

  #pumpLater(now: number): void {
    if (this.#timer) return;
    const at = this.circuit.nextChangeAt(now);
    if (at === null) return;
    this.#timer = setTimeout(
      () => {
        this.#timer = null;
        this.pump();
      },
      Math.max(1, at - now),
    );
    this.#timer.unref();
  }
}
