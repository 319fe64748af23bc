/** Numbers, spans and times as people read them, the same in every command. */

const counts = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** 1240 as `1,240`. */
export function formatCount(count: number): string {
  return counts.format(count);
}

/** `1 event`, `2 events`. */
export function formatCountOf(count: number, one: string, many = `${one}s`): string {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** Per second, with as many digits as matter: `0.5/s`, `12/s`, `1,240/s`. */
export function formatRate(perSecond: number): string {
  return perSecond > 0 && perSecond < 10
    ? `${Number(perSecond.toFixed(1))}/s`
    : `${formatCount(perSecond)}/s`;
}

/** Bytes as `812 kB`, `1.4 GB`; decimal units. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const step = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const value = bytes / 1000 ** step;
  return `${value < 10 && step > 0 ? value.toFixed(1) : Math.round(value)} ${units[step]}`;
}

/** Seconds as `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`: the two largest units. */
export function formatSeconds(seconds: number): string {
  if (seconds > 0 && seconds < 9.95) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.round(seconds);
  const parts = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ] as const;
  const first = parts.findIndex(([amount]) => amount > 0);
  if (first === -1) return '0 s';
  const shown = parts.slice(first, first + 2).filter(([amount]) => amount > 0);
  return shown.map(([amount, unit]) => `${amount} ${unit}`).join(' ');
}

/** A time of the API as local `2026-01-31 09:15:02`; null stays null. */
export function formatTime(instant: string | null): string | null {
  if (instant === null) return null;
  const time = new Date(instant);
  if (Number.isNaN(time.getTime())) return instant;
  return `${formatDay(time)} ${formatClock(time)}`;
}

/** A time that matters while it is near: today's as `09:15:02`, another day's as `2026-01-30 09:15`. */
export function formatWhen(instant: string, now: Date): string {
  const time = new Date(instant);
  if (Number.isNaN(time.getTime())) return instant;
  const day = formatDay(time);
  return day === formatDay(now) ? formatClock(time) : `${day} ${formatClock(time).slice(0, 5)}`;
}

/** The local time of day, `09:15:02`. */
export function formatClock(time: Date): string {
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map(twoDigits).join(':');
}

function formatDay(time: Date): string {
  return [String(time.getFullYear()), twoDigits(time.getMonth() + 1), twoDigits(time.getDate())].join('-');
}

function twoDigits(number: number): string {
  return String(number).padStart(2, '0');
}
