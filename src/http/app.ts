/** One HTTP application: health, the tracking API, the admin API and its documentation. */
import type { HttpBindings } from '@hono/node-server';
import { Hono } from 'hono';
import type { AdminApi } from '../admin/routes.ts';
import { AppError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { answerError, createErrorHandler } from './errors.ts';

interface AppParts {
  readonly log: Log;
  readonly health: Hono;
  /** Routes under their own full paths. */
  readonly ingest: Hono<{ Bindings: HttpBindings }> | null;
  /** Mounted under /admin. */
  readonly admin: AdminApi | null;
  /** Mounted under /docs. */
  readonly docs: Hono | null;
}

export function createApp(parts: AppParts): Hono {
  const app = new Hono({ strict: false });
  app.onError(createErrorHandler(parts.log));
  app.notFound((c) =>
    answerError(new AppError('not_found', { message: `There is nothing at ${c.req.method} ${c.req.path}.` })),
  );
  app.route('/', parts.health);
  if (parts.admin) app.route('/admin', parts.admin);
  if (parts.docs) app.route('/docs', parts.docs).get('/', (c) => c.redirect('/docs'));
  if (parts.ingest) app.route('/', parts.ingest);
  return app;
}
