/**
 * Times as SDKs send them, and the skew rule. Pure. Source: Segment's spec, "Timestamps in Segment"
 * (segment.com/docs/connections/spec/common): timestamp = receivedAt - (sentAt - originalTimestamp).
 */

/** ISO 8601 with a date at least; fractions of any length, offset `Z`, `+02:00` or `+0200`. */
const isoInstant =
  /^(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d{1,12}))?\s?(?:([Zz])|([+-]\d\d):?(\d\d))?)?$/;

/** Milliseconds since 1970, cut below the millisecond; null when the text is no such time. Without an offset it is UTC. */
export function parseInstant(text: string): number | null {
  const match = isoInstant.exec(text);
  if (!match) return null;
  const [, date, time, fraction, , hours, minutes] = match;
  const offset = hours === undefined ? 'Z' : `${hours}:${minutes}`;
  const millis = fraction === undefined ? '' : `.${fraction.slice(0, 3).padEnd(3, '0')}`;
  const clock = time === undefined ? '00:00' : time;
  const at = Date.parse(`${date}T${clock.length === 5 ? `${clock}:00` : clock}${millis}${offset}`);
  return Number.isNaN(at) || at < earliest || at > latest || !isRealDate(date as string) ? null : at;
}

/** Date.parse takes the 31st of any month and moves it on. */
function isRealDate(date: string): boolean {
  return date.slice(8) <= '28' || new Date(`${date}T00:00:00Z`).toISOString().startsWith(date);
}

const earliest = Date.parse('0001-01-01T00:00:00Z');
const latest = Date.parse('9999-12-31T23:59:59.999Z');

/** Skew beyond this is no clock but a mistake (or an attack on the range of a timestamp): it is not corrected. */
const largestSkewMs = 100 * 366 * 86_400_000;

/** When an event happened: at a fixed time, or some time before (or, negative, after) its acceptance. */
export type EventTime =
  | { readonly kind: 'fixed'; readonly at: number }
  | { readonly kind: 'before-acceptance'; readonly offsetMs: number };

/** Applies the skew rule. Times in milliseconds since 1970, null when they were not sent. */
export function eventTime(original: number | null, sent: number | null): EventTime {
  if (original === null) return { kind: 'before-acceptance', offsetMs: 0 };
  if (sent === null || Math.abs(sent - original) > largestSkewMs) return { kind: 'fixed', at: original };
  return { kind: 'before-acceptance', offsetMs: sent - original };
}
