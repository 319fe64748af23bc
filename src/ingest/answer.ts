/**
 * Errors as SDKs understand them: JSON with `code` and `message` (several read nothing else, and send the
 * request again when they cannot), when to come back, and the CORS headers that let a browser see any of it.
 */
import type { IncomingHttpHeaders, IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { AppError } from '../lib/errors.ts';
import { corsHeaders } from './cors.ts';

export const taken = '{"success":true}';

/** Of every JSON answer. */
export function jsonHeaders(request: IncomingHttpHeaders): Record<string, string> {
  return { 'content-type': 'application/json', ...corsHeaders(request) };
}

export function errorBody(error: AppError): string {
  const { code, message, details } = error;
  return JSON.stringify({
    success: false,
    code,
    message,
    error: message,
    ...(details === undefined ? {} : { details }),
  });
}

/** Retry-After for most, X-RateLimit-Reset for older versions of analytics.js: seconds in both. */
export function errorHeaders(error: AppError, request: IncomingHttpHeaders): Record<string, string> {
  const headers = jsonHeaders(request);
  if (error.retryAfterSeconds !== undefined) {
    headers['retry-after'] = headers['x-ratelimit-reset'] = String(error.retryAfterSeconds);
  }
  return headers;
}

/** What was thrown, as an answer; null for a bug, which the log must tell of. */
export function asAnswer(thrown: unknown): AppError {
  return thrown instanceof AppError ? thrown : new AppError('internal_error', { cause: thrown });
}

/** How long a client that was refused may go on sending before its connection is closed under it. */
const lingerMs = 1_000;

interface Written {
  readonly status: number;
  readonly body: string;
  readonly headers: OutgoingHttpHeaders;
}

/** Writes an answer, and closes the connection after one to a request that was not read to its end. */
export function writeAnswer(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  { status, body, headers }: Written,
): void {
  const length = { 'content-length': Buffer.byteLength(body) };
  if (incoming.complete || status === 200) {
    outgoing.writeHead(status, { ...headers, ...length });
    outgoing.end(body);
    return;
  }
  outgoing.writeHead(status, { ...headers, ...length, connection: 'close' });
  outgoing.write(body);
  // Closed at once, a client that is still sending may get a reset instead of the answer. The rest is thrown away.
  const end = () => {
    clearTimeout(timer);
    outgoing.end();
  };
  const timer = setTimeout(end, lingerMs);
  incoming.once('end', end).once('close', end).resume();
}
