/**
 * The admin API over a database of its own, spoken to through `Request`s: the real routes, errors and verbs.
 * Beside the real destination types there is one that has what types can have: a plain setting, an address, a
 * secret, a generated one, and every kind of warning before a replay.
 */
import { Hono } from 'hono';
import { createDocs } from '../../src/admin/docs.ts';
import { type AdminApi, createAdminApi } from '../../src/admin/routes.ts';
import { eventLine } from '../../src/admin/events.ts';
import { createSealer, createSecretReader } from '../../src/config/secrets.ts';
import { openPool, type Sql } from '../../src/db/client.ts';
import { eventMessage, streamEvents } from '../../src/debugger/server-sent-events.ts';
import { createTail, type Tail } from '../../src/debugger/tail.ts';
import { loadDestinations } from '../../src/destinations/catalogue.ts';
import { defineDestination } from '../../src/destinations/definition.ts';
import { createErrorHandler } from '../../src/http/errors.ts';
import { AppError } from '../../src/lib/errors.ts';
import { createLog } from '../../src/lib/log.ts';
import { createTestDatabase } from './database.ts';

export const adminToken = 'rpt_token-of-the-tests';
export const secretKey = 'the secret key of the tests';

export interface Answer {
  status: number;
  headers: Headers;
  // Answers are compared field by field in the tests, whatever they are.
  // oxlint-disable-next-line typescript/no-explicit-any
  body: any;
}

export interface AdminApp {
  url: string;
  sql: Sql;
  adminApi: AdminApi;
  tail: Tail;
  /** Variables that `env:NAME` references find. */
  environment: Map<string, string>;
  /** Anything from a path to a whole request, with the token unless it says otherwise. */
  fetch(path: string, init?: RequestInit): Promise<Response>;
  call(method: string, path: string, body?: unknown): Promise<Answer>;
  close(): Promise<void>;
}

const settingsSchema = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  additionalProperties: false,
  required: ['url'],
  properties: {
    url: { type: 'string', format: 'uri' },
    label: { type: 'string', maxLength: 20 },
    apiKey: { type: 'string', minLength: 4, pattern: '^[A-Za-z0-9_-]+$', writeOnly: true },
    headers: { type: 'object', additionalProperties: { type: 'string' }, writeOnly: true },
    signingSecret: { type: 'string', writeOnly: true },
  },
};

const probe = {
  definition: defineDestination({
    slug: 'probe',
    name: 'Probe',
    description: 'Takes part in tests.',
    docs: [],
    accepts: ['track', 'identify'],
    limits: { concurrency: 8, timeoutMs: 1000, batchEvents: 1 },
    replay: {
      oldestEventHours: 72,
      honoursEventTime: false,
      dedupeKey: null,
      sideEffects: 'Probe may ring a bell.',
    },
    complete: (settings, randomBytes) => ({
      signingSecret: `whsec_${randomBytes(24).toString('base64')}`,
      ...settings,
    }),
    send: (events) => Promise.resolve(events.map(() => ({ kind: 'delivered' as const }))),
  }),
  settingsSchema,
};

export async function createAdminApp(): Promise<AdminApp> {
  const database = await createTestDatabase();
  const sql = openPool(database.url, 'admin');
  const environment = new Map<string, string>();
  const sealer = createSealer(secretKey);
  const failures: unknown[] = [];
  const tail = createTail({
    sql,
    frameOf: (event) => eventMessage(event, eventLine(event)),
    onError: (error) => failures.push(error),
  });
  const adminApi = createAdminApi({
    sql,
    adminToken,
    catalogue: await loadDestinations({ extra: [probe] }),
    sealer,
    readSecret: createSecretReader({ sealer, readEnvironment: (name) => environment.get(name) }),
    checkDestinationUrl: (url) =>
      url.includes('//private.') ? Promise.reject(new AppError('blocked_address')) : Promise.resolve(),
    streamEvents: (request) => streamEvents(tail, request),
    reload: null,
  });
  const app = new Hono();
  app.onError(createErrorHandler(createLog({ level: 'silent' })));
  app.route('/admin', adminApi);
  app.route('/docs', createDocs(adminApi));

  const request = async (path: string, init: RequestInit = {}) => {
    const headers = new Headers(init.headers);
    if (!headers.has('authorization')) headers.set('authorization', `Bearer ${adminToken}`);
    return app.request(path, { ...init, headers });
  };
  return {
    url: database.url,
    sql,
    adminApi,
    tail,
    environment,
    fetch: request,
    async call(method, path, body) {
      const init = body === undefined ? { method } : { method, body: JSON.stringify(body) };
      const response = await request(path, init);
      const text = await response.text();
      const { status, headers } = response;
      return { status, headers, body: text === '' ? null : (JSON.parse(text) as unknown) };
    },
    async close() {
      tail.close();
      await sql.end({ timeout: 5 });
      await database.drop();
      if (failures.length > 0) throw new AggregateError(failures, 'the tail failed');
    },
  };
}
