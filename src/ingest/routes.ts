/**
 * The tracking API: Segment's paths and the short forms of the browser SDK, with and without a trailing
 * slash, never redirected. Answers follow what real SDKs do with them: exactly 200 and a JSON body for
 * everything taken (201, 204 or an empty body make several SDKs send again), errors with `code` and `message`.
 */
import { Hono, type Context } from 'hono';
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { AppError, toError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { acceptBody, type AcceptDeps } from './accept.ts';
import { readBody } from './body.ts';
import { corsHeaders, preflightHeaders } from './cors.ts';
import { settingsDocument } from './settings-document.ts';

type Env = { Bindings: HttpBindings };

/** Path segment -> call; null is a batch. */
const calls: Readonly<Record<string, string | null>> = {
  identify: 'identify',
  i: 'identify',
  track: 'track',
  t: 'track',
  page: 'page',
  p: 'page',
  screen: 'screen',
  s: 'screen',
  group: 'group',
  g: 'group',
  alias: 'alias',
  a: 'alias',
  batch: null,
  b: null,
  import: null,
};

interface IngestDeps extends AcceptDeps {
  readonly log: Log;
}

const json = { 'content-type': 'application/json' };

/** The routes under `/v1` and the settings document. */
export function createIngestRoutes(deps: IngestDeps): Hono<Env> {
  const app = new Hono<Env>({ strict: false });
  app.options('*', (c) => c.body(null, 204, preflightHeaders(c.env.incoming.headers)));
  for (const [segment, type] of Object.entries(calls)) app.post(`/v1/${segment}`, (c) => take(deps, c, type));
  // analytics.js counts its own failures here; there is nothing to keep.
  app.post('/v1/m', (c) => {
    c.env.incoming.resume();
    return c.body('{"success":true}', 200, { ...json, ...corsHeaders(c.env.incoming.headers) });
  });
  for (const path of ['/v1/projects/:key/settings', '/projects/:key/settings']) {
    app.get(path, async (c) => {
      const key = c.req.param('key') ?? '';
      const headers = { ...json, ...corsHeaders(c.env.incoming.headers) };
      if ((await deps.writeKeys.sourceOf(key)) === null)
        return c.body(errorBody(new AppError('unknown_write_key')), 404, headers);
      return c.body(JSON.stringify(settingsDocument(key, c.req.header('host') ?? 'localhost')), 200, headers);
    });
  }
  return app;
}

async function take(deps: IngestDeps, c: Context<Env>, type: string | null): Promise<Response> {
  const { incoming, outgoing } = c.env;
  const startedAt = performance.now();
  const headers: Record<string, string> = { ...json, ...corsHeaders(incoming.headers) };
  let status = 200;
  let body = '{"success":true}';
  let facts: object = {};
  try {
    const bytes = await readBody(incoming);
    const keys = keysOf(incoming.headers.authorization, incoming.url ?? '');
    const { sourceId, accepted, rejected } = await acceptBody(deps, { type, keys }, bytes);
    if (rejected.length > 0) body = JSON.stringify({ success: true, rejected });
    facts = { sourceId, accepted, rejected: rejected.length };
  } catch (thrown) {
    const error = thrown instanceof AppError ? thrown : new AppError('internal_error', { cause: thrown });
    if (error.code === 'internal_error') deps.log.error({ err: toError(thrown) }, 'accepting events failed');
    status = error.status;
    body = errorBody(error);
    facts = { code: error.code };
    if (error.retryAfterSeconds !== undefined) {
      headers['retry-after'] = headers['x-ratelimit-reset'] = String(error.retryAfterSeconds);
    }
    // A body that is not read to its end cannot be followed by another request on the same connection.
    if (!incoming.complete) headers['connection'] = 'close';
  }
  deps.log.info(
    { path: c.req.path, status, ms: Math.round((performance.now() - startedAt) * 10) / 10, ...facts },
    'ingest',
  );
  // Written here and not as a Response: with small events that conversion is a fifth of the work.
  outgoing.writeHead(status, { ...headers, 'content-length': Buffer.byteLength(body) });
  outgoing.end(body);
  return RESPONSE_ALREADY_SENT;
}

function errorBody(error: AppError): string {
  const { code, message, details } = error;
  return JSON.stringify({
    success: false,
    code,
    message,
    error: message,
    ...(details === undefined ? {} : { details }),
  });
}

/** `Basic base64(key:)`, `Bearer key`, `?writeKey=`. */
function keysOf(authorization: string | undefined, url: string): string[] {
  const keys: string[] = [];
  const [scheme, credentials] = (authorization ?? '').split(' ', 2);
  if (credentials && scheme?.toLowerCase() === 'basic') {
    keys.push(Buffer.from(credentials, 'base64').toString('utf8').split(':', 1)[0] as string);
  } else if (credentials && scheme?.toLowerCase() === 'bearer') keys.push(credentials);
  const query = url.indexOf('?');
  const fromQuery = query < 0 ? null : new URLSearchParams(url.slice(query)).get('writeKey');
  if (fromQuery) keys.push(fromQuery);
  return keys.filter((key) => key !== '');
}
