/**
 * The admin API: every route behind the token, each only reading its input and calling its verb. The types
 * of the routes are the contract of the console's and the CLI's client (`AdminApi`).
 */
import { Hono } from 'hono';
import { AppError } from '../lib/errors.ts';
import { createProgressMeter } from '../replay/progress.ts';
import { requireAdminToken } from './auth.ts';
import { deliveryRoutes } from './delivery-routes.ts';
import { destinationRoutes, destinationTypeRoutes } from './destination-routes.ts';
import type { DestinationDeps } from './destinations.ts';
import { type EventDeps, eventRoutes } from './event-routes.ts';
import { createQueryRunner } from './query.ts';
import { queryRoutes } from './query-routes.ts';
import { replayRoutes } from './replay-routes.ts';
import { type ServerDeps, serverRoutes } from './server-routes.ts';
import { sourceRoutes } from './source-routes.ts';

export interface AdminDeps extends DestinationDeps, EventDeps, ServerDeps {
  readonly adminToken: string;
}

/** Makes the admin API, to be mounted at /admin by an app that answers AppErrors. */
export function createAdminApi(deps: AdminDeps) {
  const shared = { ...deps, progress: createProgressMeter(), runQuery: createQueryRunner(deps.sql) };
  const routes = new Hono()
    .use(requireAdminToken(deps.adminToken))
    .route('/sources', sourceRoutes(shared))
    .route('/destination-types', destinationTypeRoutes(shared))
    .route('/destinations', destinationRoutes(shared))
    .route('/replays', replayRoutes(shared))
    .route('/', deliveryRoutes(shared))
    .route('/events', eventRoutes(shared))
    .route('/sql', queryRoutes(shared))
    .route('/', serverRoutes(shared));
  routes.all('*', (c) => {
    throw new AppError('not_found', { message: `There is no ${c.req.method} ${c.req.path}.` });
  });
  return routes;
}

/** For Hono's typed client: `hc<AdminApi>('/admin')`. */
export type AdminApi = ReturnType<typeof createAdminApi>;
