/**
 * Times as people type them. What is relative or has no zone is this machine's local time, as in a shell;
 * what comes out is ISO 8601 in UTC, so that the server never has to guess.
 */

/** What `parseMoment` reads, for help texts and errors. */
export const momentForms =
  '2026-01-31, 2026-01-31T09:15, 2026-01-31T09:15:00Z, now, today, yesterday, "yesterday 14:30", "24h ago", 7d';

const unitMs: Readonly<Record<string, number>> = {
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 7 * 86_400_000,
};

const span =
  /^(\d{1,6}(?:\.\d{1,3})?)\s*(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)(?:\s+ago)?$/;
const dayWord = /^(today|yesterday|tomorrow)(?:\s+(?:at\s+)?(\d{1,2}):(\d{2})(?::(\d{2}))?)?$/;
const iso =
  /^(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2})(?:[.,](\d{1,9}))?)?\s*(Z|[+-]\d{2}:?\d{2})?)?$/i;
const dayOffsets: Readonly<Record<string, number>> = { yesterday: -1, today: 0, tomorrow: 1 };

/**
 * Reads a time; null when the text is none.
 * - `yesterday`, `today`, `tomorrow`: the local midnight that day begins with; `yesterday 14:30`: that time of day.
 * - `24h ago`, `24h`, `7 days ago`: that long before `now`, a day being 24 hours.
 * - `2026-01-31`: its local midnight; `2026-01-31T09:15`: local time; with `Z` or an offset: that instant.
 */
export function parseMoment(text: string, now: Date): string | null {
  const trimmed = text.trim();
  const word = trimmed.toLowerCase();
  if (word === 'now') return now.toISOString();
  return parseSpan(word, now) ?? parseDayWord(word, now) ?? parseIso(trimmed);
}

function parseSpan(text: string, now: Date): string | null {
  const [, amount = '', unit = ''] = span.exec(text) ?? [];
  const ms = unitMs[unit.charAt(0)];
  return ms === undefined ? null : valid(new Date(now.getTime() - Number(amount) * ms));
}

function parseDayWord(text: string, now: Date): string | null {
  const [, word = '', ...clock] = dayWord.exec(text) ?? [];
  const offset = dayOffsets[word];
  if (offset === undefined) return null;
  return local([now.getFullYear(), now.getMonth() + 1, now.getDate()], offset, clock);
}

function parseIso(text: string): string | null {
  const match = iso.exec(text);
  if (!match) return null;
  const [, year, month, day, hours, minutes, seconds, fraction = '', zone] = match;
  const date = [Number(year), Number(month), Number(day)] as const;
  if (!isRealDate(date)) return null;
  if (zone === undefined) return local(date, 0, [hours, minutes, seconds], fraction);
  const offset = /^[+-]\d{4}$/.test(zone) ? `${zone.slice(0, 3)}:${zone.slice(3)}` : zone.toUpperCase();
  const instant = valid(new Date(`${year}-${month}-${day}T${hours}:${minutes}:${seconds ?? '00'}${offset}`));
  return instant && withFraction(instant, fraction);
}

function isRealDate([year, month, day]: readonly [number, number, number]): boolean {
  const date = new Date(Date.UTC(year, month - 1, day));
  return date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
}

function local(
  [year, month, day]: readonly [number, number, number],
  offsetDays: number,
  clock: readonly (string | undefined)[],
  fraction = '',
): string | null {
  const [hours = 0, minutes = 0, seconds = 0] = clock.map((part) => Number(part ?? 0));
  if (hours > 23 || minutes > 59 || seconds > 59) return null;
  const instant = valid(new Date(year, month - 1, day + offsetDays, hours, minutes, seconds));
  return instant && withFraction(instant, fraction);
}

/** Date keeps milliseconds; events are accepted by the microsecond. */
function withFraction(instant: string, fraction: string): string {
  return fraction === '' ? instant : `${instant.slice(0, 19)}.${fraction.slice(0, 6).padEnd(3, '0')}Z`;
}

function valid(date: Date): string | null {
  return Number.isNaN(date.getTime()) || date.getUTCFullYear() > 9999 ? null : date.toISOString();
}
