/**
 * CORS for the paths SDKs use, on every answer, errors too: an error without Allow-Origin looks like a
 * network failure to a browser SDK and is retried ten times. The origin is echoed because SDKs may send
 * credentials, and the asked headers are echoed because `*` does not cover Authorization (Fetch standard).
 */
import type { IncomingHttpHeaders } from 'node:http';

export function corsHeaders(request: IncomingHttpHeaders): Record<string, string> {
  const { origin } = request;
  if (origin === undefined) return {};
  return {
    'access-control-allow-origin': origin,
    'access-control-allow-credentials': 'true',
    'access-control-expose-headers': 'Retry-After, X-RateLimit-Reset',
    vary: 'Origin',
  };
}

/** Further headers of the answer to a preflight. */
export function preflightHeaders(request: IncomingHttpHeaders): Record<string, string> {
  return {
    ...corsHeaders(request),
    'access-control-allow-methods': 'GET, POST, OPTIONS',
    'access-control-allow-headers':
      request['access-control-request-headers'] ??
      'authorization, content-type, content-encoding, x-retry-count',
    'access-control-max-age': '7200',
    ...(request['access-control-request-private-network'] === 'true'
      ? { 'access-control-allow-private-network': 'true' }
      : {}),
  };
}
