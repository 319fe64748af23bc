/**
 * How long a replay will still take. Honest where it can be: from the pace over the last half minute in
 * which somebody looked, else from the pace since the start; null when there is no pace to go by.
 */
import { doneOf, type Replay } from './list.ts';

interface Look {
  readonly ageSeconds: number;
  readonly done: number;
}

export interface ProgressMeter {
  /** Seconds until the replay's end; 0 once all is done, null when unknown or standing. */
  etaSeconds(replay: Replay): number | null;
}

const windowSeconds = 30;
const shortestSpanSeconds = 1;
const mostReplays = 1000;

/** Makes a meter. It remembers what it was shown, so one should serve all requests of a process. */
export function createProgressMeter(): ProgressMeter {
  const looks = new Map<number, Look[]>();
  return {
    etaSeconds(replay) {
      const { id, state, ageSeconds, ratePerSecond } = replay;
      const done = doneOf(replay);
      const remaining = replay.total - done;
      if (state !== 'running') {
        looks.delete(id);
        return state === 'completed' ? 0 : null;
      }
      if (remaining <= 0) return 0;
      const pace = paceOf(remember(looks, id, { ageSeconds, done })) ?? done / ageSeconds;
      // A limit is a promise about the pace, also before the first event has ended.
      if (pace > 0) return Math.ceil(remaining / Math.min(pace, ratePerSecond ?? Infinity));
      return ratePerSecond === null ? null : Math.ceil(remaining / ratePerSecond);
    },
  };
}

function remember(looks: Map<number, Look[]>, id: number, look: Look): readonly Look[] {
  const recent = (looks.get(id) ?? []).filter(
    (earlier) => look.ageSeconds - earlier.ageSeconds <= windowSeconds,
  );
  // Many viewers of one replay must not grow the list: one look a second is enough.
  const last = recent.at(-1);
  const kept = last && look.ageSeconds - last.ageSeconds < shortestSpanSeconds ? recent : [...recent, look];
  looks.delete(id);
  looks.set(id, kept);
  const [oldest] = looks.keys();
  if (looks.size > mostReplays && oldest !== undefined) looks.delete(oldest);
  return [...kept.filter((earlier) => earlier !== look), look];
}

/** Events per second between the oldest look and now; null when they are too close together. */
function paceOf(recent: readonly Look[]): number | null {
  const [first] = recent;
  const last = recent.at(-1);
  if (!first || !last || last.ageSeconds - first.ageSeconds < shortestSpanSeconds) return null;
  return (last.done - first.done) / (last.ageSeconds - first.ageSeconds);
}
