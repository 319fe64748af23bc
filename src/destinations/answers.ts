/**
 * What an HTTP answer means for an event; the rules shared by all destinations that have no better word from
 * their vendor. Sources: Standard Webhooks 1.0.0 (github.com/standard-webhooks, read 2026-11) for 410 and
 * Retry-After; RFC 9110 section 10.2.3 for its two forms.
 */
import { STATUS_CODES } from 'node:http';
import type { DestinationResponse, Outcome } from './definition.ts';

const longestRetryAfterMs = 3_600_000;
/** Client errors that say "later", not "never". */
const temporary = new Set([408, 423, 425, 429]);

/**
 * The outcome of an answer. 2xx delivered; 3xx (never followed), 408, 423, 425, 429 and 5xx are tried again;
 * any other 4xx refuses the event. 401 and 403 pause the whole destination, 410 disables it.
 * @param now Unix time in milliseconds, for a Retry-After that is a date.
 */
export function outcomeOfResponse(response: DestinationResponse, now: number): Outcome {
  const { status } = response;
  if (status >= 200 && status < 300) return { kind: 'delivered', status };
  const reason = `The endpoint answered ${status} ${STATUS_CODES[status] ?? ''}`.trimEnd() + '.';
  if (status >= 400 && status < 500 && !temporary.has(status)) {
    const whole = status === 401 || status === 403 ? 'pause' : status === 410 ? 'disable' : null;
    return {
      kind: 'rejected',
      reason,
      status,
      response: response.body,
      ...(whole && { destination: whole }),
    };
  }
  const retryAfterMs =
    status === 429 || status === 503 ? parseRetryAfter(response.headers['retry-after'], now) : null;
  return { kind: 'retry', reason, status, ...(retryAfterMs !== null && { retryAfterMs }) };
}

/** Retry-After in milliseconds, at most an hour; null when absent, negative or rubbish. */
export function parseRetryAfter(text: string | undefined, now: number): number | null {
  if (text === undefined) return null;
  const trimmed = text.trim();
  if (/^\d+(\.\d+)?$/.test(trimmed)) return Math.min(longestRetryAfterMs, Math.ceil(Number(trimmed) * 1_000));
  // A date has letters; Date.parse would take "-1" for a year.
  const at = /[a-z]/i.test(trimmed) ? Date.parse(trimmed) : NaN;
  return Number.isNaN(at) || at < now ? null : Math.min(longestRetryAfterMs, at - now);
}
