/**
 * Watches a replay to its end with a progress bar. Promises to bear restarts of the server: the replay goes
 * on by itself, so the watcher waits and looks again.
 */
import type { Destination, Replay } from './answers.ts';
import type { Client } from './client.ts';
import { ApiError, CommandError } from './failure.ts';
import { formatCount, formatCountOf, formatRate, formatSeconds } from './figures.ts';
import { pause } from './pause.ts';
import { printable } from './printable.ts';
import { barWithFacts, createProgressLine } from './progress-line.ts';
import type { TerminalStream } from './terminal.ts';

export interface WatchOptions {
  /** Where the bar goes; null: nowhere. */
  readonly stream: TerminalStream | null;
  /** Stops watching; the replay goes on. */
  readonly signal: AbortSignal;
  readonly pollMs: number;
  readonly now: () => number;
}

const rateSpanMs = 5000;
const standstillMs = 5000;
const longestAbsenceMs = 300_000;

/**
 * Resolves with the replay's last state when it has ended, or as it was when the signal aborted.
 * @throws ApiError when it is gone, CommandError when the server stays away for five minutes.
 */
export async function watchReplay(client: Client, first: Replay, options: WatchOptions): Promise<Replay> {
  const { stream, signal, pollMs, now } = options;
  const line = stream === null ? null : createProgressLine(stream, now);
  const remark = (text: string) => line?.remark(text);
  const look = lookPatiently(client, { remark, now });
  const pace = measurePace(now);
  let replay = first;
  let standstill = '';
  for (;;) {
    const shown = replay;
    const facts = factsOf(shown, pace.add(shown.done));
    const bar = (width: number) => barWithFacts(shown, facts, width);
    if (hasEnded(replay) || signal.aborted) {
      line?.finish(bar);
      return replay;
    }
    line?.update(bar);
    const reason = pace.restedMs() < standstillMs ? '' : await reasonOfStandstill(client, replay);
    if (reason !== standstill && reason !== '') remark(reason);
    standstill = reason;
    await pause(pollMs, signal);
    if (!signal.aborted) replay = await look(replay);
  }
}

/** Reads a replay's state; while the server is away, the last one known. */
function lookPatiently(
  client: Client,
  { remark, now }: { readonly remark: (text: string) => void; readonly now: () => number },
): (replay: Replay) => Promise<Replay> {
  let seenAt = now();
  let isAway = false;
  return async (replay) => {
    try {
      const seen = await client.get<Replay>(`/admin/replays/${replay.id}`);
      if (isAway) remark('The server is back.');
      isAway = false;
      seenAt = now();
      return seen;
    } catch (error) {
      if (!mayPass(error) || now() - seenAt > longestAbsenceMs) throw error;
      if (!isAway) remark('The server does not answer; the replay goes on when it is back. Waiting.');
      isAway = true;
      return replay;
    }
  };
}

/** Whether nothing more will happen to it. */
export function hasEnded(replay: Replay): boolean {
  return replay.state === 'completed' || replay.state === 'cancelled';
}

/** What became of it, in lines for a person. */
export function summarize(replay: Replay): string[] {
  const { id, state, total, done, delivered, dead, filtered, createdAt, finishedAt } = replay;
  const seconds = finishedAt === null ? null : (Date.parse(finishedAt) - Date.parse(createdAt)) / 1000;
  const pace =
    seconds !== null && seconds > 0 ? ` in ${formatSeconds(seconds)} (${formatRate(done / seconds)})` : '';
  const lines = [
    `Replay ${id} ${state}: ${formatCount(delivered)} of ${formatCountOf(total, 'event')} delivered${pace}.`,
  ];
  if (dead > 0) {
    lines.push(
      `${formatCountOf(dead, 'event was', 'events were')} given up: repeater dead-letters list --replay ${id}`,
    );
  }
  if (filtered > 0) {
    lines.push(
      `${formatCountOf(filtered, 'event is', 'events are')} of a type the destination does not take.`,
    );
  }
  return lines;
}

function factsOf(replay: Replay, rate: number | null): string {
  const { done, total, dead, state } = replay;
  const parts = [`${formatCount(done)}/${formatCount(total)}`];
  if (!hasEnded(replay)) {
    if (state === 'paused') parts.push('paused');
    if (rate !== null) parts.push(formatRate(rate));
    const eta = replay.etaSeconds ?? (rate !== null && rate > 0 ? (total - done) / rate : null);
    if (eta !== null && state === 'running') parts.push(`ETA ${formatSeconds(Math.ceil(eta))}`);
  } else if (state === 'cancelled') parts.push('cancelled');
  if (dead > 0) parts.push(`dead ${formatCount(dead)}`);
  return parts.join('  ');
}

interface Pace {
  /** Events per second over the last seconds; null until there is something to compare. */
  add(done: number): number | null;
  /** How long nothing has moved. */
  restedMs(): number;
}

function measurePace(now: () => number): Pace {
  let samples: { at: number; done: number }[] = [];
  let movedAt = now();
  return {
    add(done) {
      const at = now();
      if (samples.at(-1)?.done !== done) movedAt = at;
      samples = [...samples.filter((sample) => at - sample.at <= rateSpanMs), { at, done }];
      const [oldest] = samples;
      return oldest === undefined || at === oldest.at
        ? null
        : ((done - oldest.done) * 1000) / (at - oldest.at);
    },
    restedMs: () => now() - movedAt,
  };
}

/** Why a running replay may stand still, for the person who waits for it. */
async function reasonOfStandstill(client: Client, replay: Replay): Promise<string> {
  if (replay.state !== 'running') return '';
  try {
    const { id, state, pausedReason } = await client.get<Destination>(
      `/admin/destinations/${replay.destinationId}`,
    );
    if (state === 'active') return '';
    const because = pausedReason === null ? '' : ` (${printable(pausedReason)})`;
    return `Destination ${id} is ${state}${because}. To go on: repeater destinations enable ${id}`;
  } catch (error) {
    if (!mayPass(error)) throw error;
    return '';
  }
}

function mayPass(error: unknown): boolean {
  return (error instanceof ApiError || error instanceof CommandError) && error.mayPass;
}
