/**
 * The tracking API: Segment's paths and the short forms of the browser SDK, with and without `/v1` and a
 * trailing slash, never redirected. Answers follow what real SDKs do with them: exactly 200 and a JSON body for
 * everything taken (201, 204 or an empty body make several SDKs send again), errors with `code` and `message`.
 */
import { Hono, type Context } from 'hono';
import type { HttpBindings } from '@hono/node-server';
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response';
import { AppError, toError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { acceptBody, type AcceptDeps, type Call } from './accept.ts';
import { createAnalyticsJs } from './analytics-js.ts';
import { asAnswer, errorBody, errorHeaders, jsonHeaders, taken, writeAnswer } from './answer.ts';
import { readBody } from './body.ts';
import type { Forwarding } from './client-address.ts';
import { corsHeaders, preflightHeaders } from './cors.ts';
import { gif, pixelBody } from './pixel.ts';
import { settingsDocument } from './settings-document.ts';
import { sourceConfig } from './source-config.ts';

type Env = { Bindings: HttpBindings };

/** Path segment -> call; null is a batch. */
const calls: ReadonlyMap<string, string | null> = new Map([
  ['identify', 'identify'],
  ['track', 'track'],
  ['page', 'page'],
  ['screen', 'screen'],
  ['group', 'group'],
  ['alias', 'alias'],
  ['batch', null],
  ['import', null],
]);
const shortForms: ReadonlyMap<string, string | null> = new Map([
  ['i', 'identify'],
  ['t', 'track'],
  ['p', 'page'],
  ['s', 'screen'],
  ['g', 'group'],
  ['a', 'alias'],
  ['b', null],
]);

interface IngestDeps extends AcceptDeps {
  readonly forwarding: Forwarding;
  readonly log: Log;
}

/** Everything SDKs ask for. To be mounted last: what it does not know is answered with 404, open to browsers. */
export function createIngestRoutes(deps: IngestDeps): Hono<Env> {
  const app = new Hono<Env>({ strict: false });
  app.options('*', (c) => c.body(null, 204, preflightHeaders(c.env.incoming.headers)));
  const post = (path: string, handle: (c: Context<Env>) => Response | Promise<Response>) => {
    for (const prefix of ['/v1', ''])
      app.post(`${prefix}/${path}`, handle).all(`${prefix}/${path}`, refuseMethod);
  };
  const get = (path: string, handle: (c: Context<Env>) => Promise<Response>) => {
    for (const prefix of ['/v1', ''])
      app.get(`${prefix}/${path}`, handle).all(`${prefix}/${path}`, refuseMethod);
  };
  for (const [segment, type] of calls) post(segment, (c) => take(deps, c, { type, onDevice: false }));
  // Only browsers and mobile SDKs use these.
  for (const [segment, type] of shortForms) post(segment, (c) => take(deps, c, { type, onDevice: true }));
  app.post('/beacon/v1/batch', (c) => take(deps, c, { type: null, onDevice: true }));
  // analytics.js counts its own failures here; there is nothing to keep.
  post('m', (c) => {
    c.env.incoming.resume();
    return c.body(taken, 200, jsonHeaders(c.env.incoming.headers));
  });
  app.route('/', createAnalyticsJs(deps.writeKeys));
  get('projects/:key/settings', (c) => answer(deps, c, () => settings(deps, c)));
  app.get('/sourceConfig', (c) => answer(deps, c, () => rudderConfig(deps, c)));
  get('pixel/:type', (c) => pixel(deps, c));
  app.all('*', (c) =>
    answer(deps, c, () => {
      throw new AppError('not_found', { message: `There is nothing at ${c.req.method} ${c.req.path}.` });
    }),
  );
  return app;
}

/** Stores what was posted. */
async function take(
  deps: IngestDeps,
  c: Context<Env>,
  { type, onDevice }: { readonly type: string | null; readonly onDevice: boolean },
): Promise<Response> {
  const { incoming, outgoing } = c.env;
  const startedAt = performance.now();
  let status = 200;
  let body = taken;
  let headers: Record<string, string>;
  let facts: object;
  try {
    const call = callOf(deps, c, { type, onDevice });
    for (const key of call.keys) deps.rateLimit?.check(key);
    const bytes = await readBody(incoming);
    const { sourceId, accepted, rejected } = await acceptBody(deps, call, bytes);
    if (rejected.length > 0) body = JSON.stringify({ success: true, rejected });
    headers = jsonHeaders(incoming.headers);
    facts = { sourceId, accepted, rejected: rejected.length };
  } catch (thrown) {
    const error = failureOf(deps, thrown);
    status = error.status;
    body = errorBody(error);
    headers = errorHeaders(error, incoming.headers);
    facts = { code: error.code };
  }
  deps.log.info(
    { path: c.req.path, status, ms: Math.round((performance.now() - startedAt) * 10) / 10, ...facts },
    'ingest',
  );
  // Written here and not as a Response: with small events that conversion is a fifth of the work.
  writeAnswer(incoming, outgoing, { status, body, headers });
  return RESPONSE_ALREADY_SENT;
}

function callOf(deps: IngestDeps, c: Context<Env>, of: { type: string | null; onDevice: boolean }): Call {
  const { incoming } = c.env;
  const { headers } = incoming;
  return {
    type: of.type,
    keys: keysOf(headers.authorization, incoming.url ?? ''),
    client: {
      // Browsers name their page's origin, RudderStack's mobile SDKs the anonymous id.
      onDevice: of.onDevice || headers.origin !== undefined || headers['anonymousid'] !== undefined,
      address: () => deps.forwarding.addressOf(incoming),
    },
  };
}

/** Always the image: whoever looks at a mail has no use for an error. */
async function pixel(deps: IngestDeps, c: Context<Env>): Promise<Response> {
  const type = calls.get(c.req.param('type') ?? '') ?? null;
  let facts: object = {};
  try {
    if (type === null) throw new AppError('not_found');
    const body = pixelBody(c.env.incoming.url ?? '');
    const { sourceId, accepted } = await acceptBody(deps, callOf(deps, c, { type, onDevice: true }), body);
    facts = { sourceId, accepted };
  } catch (thrown) {
    facts = { code: failureOf(deps, thrown).code };
  }
  deps.log.info({ path: c.req.path, status: 200, ...facts }, 'ingest');
  return c.body(new Uint8Array(gif), 200, {
    ...corsHeaders(c.env.incoming.headers),
    'content-type': 'image/gif',
    'cache-control': 'no-store',
  });
}

async function settings(deps: IngestDeps, c: Context<Env>): Promise<object> {
  const { incoming } = c.env;
  const key = c.req.param('key') ?? '';
  if ((await deps.writeKeys.sourceOf(key)) === null) throw new AppError('unknown_write_key');
  const { hostOf, protocolOf } = deps.forwarding;
  return settingsDocument(key, { host: hostOf(incoming), protocol: protocolOf(incoming) });
}

async function rudderConfig(deps: IngestDeps, c: Context<Env>): Promise<object> {
  const { incoming } = c.env;
  for (const key of keysOf(incoming.headers.authorization, incoming.url ?? '')) {
    const sourceId = await deps.writeKeys.sourceOf(key);
    if (sourceId !== null) return sourceConfig(key, sourceId);
  }
  throw new AppError('unknown_write_key');
}

/** A document as an answer, or why there is none. */
async function answer(
  deps: IngestDeps,
  c: Context<Env>,
  make: () => object | Promise<object>,
): Promise<Response> {
  const { headers } = c.env.incoming;
  try {
    return c.body(JSON.stringify(await make()), 200, jsonHeaders(headers));
  } catch (thrown) {
    const error = failureOf(deps, thrown);
    return new Response(errorBody(error), { status: error.status, headers: errorHeaders(error, headers) });
  }
}

function refuseMethod(c: Context<Env>): Response {
  const error = new AppError('method_not_allowed', { message: `${c.req.path} knows no ${c.req.method}.` });
  const headers = errorHeaders(error, c.env.incoming.headers);
  return new Response(errorBody(error), { status: error.status, headers });
}

function failureOf(deps: IngestDeps, thrown: unknown): AppError {
  const error = asAnswer(thrown);
  if (error.code === 'internal_error') deps.log.error({ err: toError(thrown) }, 'a request of an SDK failed');
  return error;
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
