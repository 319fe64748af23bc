/**
 * What an HTTP answer means for an event; the rules shared by all destinations that have no better word from
 * their vendor. Sources: Standard Webhooks 1.0.0 (github.com/standard-webhooks, read 2026-11) for 410 and
 * Retry-After; RFC 9110 section 10.2.3 for its two forms.
 */
import { STATUS_CODES } from 'node:http';
import type { DestinationResponse, Outcome } from './definition.ts';

const longestRetryAfterMs = 3_600_000;
/** Being told when to come back uses up no try: without a floor, `Retry-After: 0` would be a tight loop without end. */
const shortestRetryAfterMs = 1_000;
/** The dates of RFC 9110 that name their zone. Date.parse alone takes nearly any text with a number for a date. */
const httpDate = /^[A-Z][a-z]{2,8}, .* GMT$/;
/** Client errors that say "later", not "never". */
const temporary = new Set([408, 423, 425, 429]);
/** Answers whose Retry-After counts. */
const comesLater = new Set([429, 503]);
/** Answers that are not about the event: a wrong key, an endpoint that is gone. */
const forAllEvents: ReadonlyMap<number, 'pause' | 'disable'> = new Map([
  [401, 'pause'],
  [403, 'pause'],
  [410, 'disable'],
]);

/**
 * The outcome of an answer. 2xx delivered; 3xx (never followed), 408, 423, 425, 429 and 5xx are tried again;
 * any other 4xx refuses the event. 401 and 403 pause the whole destination, 410 disables it.
 * @param now Unix time in milliseconds, for a Retry-After that is a date.
 */
export function outcomeOfResponse(response: DestinationResponse, now: number): Outcome {
  const { status } = response;
  if (status >= 200 && status < 300) return { kind: 'delivered', status };
  const reason = reasonOf(status);
  if (status >= 400 && status < 500 && !temporary.has(status)) {
    const destination = forAllEvents.get(status);
    return { kind: 'rejected', reason, status, response: response.body, ...(destination && { destination }) };
  }
  const retryAfterMs = comesLater.has(status) ? parseRetryAfter(response.headers['retry-after'], now) : null;
  return { kind: 'retry', reason, status, ...(retryAfterMs !== null && { retryAfterMs }) };
}

/** `The endpoint answered 404 Not Found.` */
function reasonOf(status: number): string {
  const note = status >= 300 && status < 400 ? '; redirects are not followed.' : '.';
  return `The endpoint answered ${`${status} ${STATUS_CODES[status] ?? ''}`.trimEnd()}${note}`;
}

/** Retry-After in milliseconds, a second to an hour; null when absent, negative, past or rubbish. */
export function parseRetryAfter(text: string | undefined, now: number): number | null {
  if (text === undefined) return null;
  const trimmed = text.trim();
  const isSeconds = /^\d+(\.\d+)?(e\d+)?$/i.test(trimmed);
  const waitMs = isSeconds
    ? Number(trimmed) * 1_000
    : httpDate.test(trimmed)
      ? Date.parse(trimmed) - now
      : NaN;
  if (!(waitMs >= 0)) return null;
  return Math.min(longestRetryAfterMs, Math.max(shortestRetryAfterMs, Math.ceil(waitMs)));
}
