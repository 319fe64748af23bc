/**
 * Who may use the admin API: the bearer of the admin token. Everything under /admin answers 401 without
 * it, also what does not exist, so that a stranger learns nothing. No cookie counts: a page of another
 * site cannot act for the admin.
 */
import type { MiddlewareHandler } from 'hono';
import { AppError } from '../lib/errors.ts';
import { secretsEqual } from '../lib/ids.ts';

const bearer = /^Bearer +(\S+) *$/i;

/** Lets a request pass only with `Authorization: Bearer <adminToken>`, compared in constant time. */
export function requireAdminToken(adminToken: string): MiddlewareHandler {
  return async (c, next) => {
    const token = bearer.exec(c.req.header('authorization') ?? '')?.[1];
    if (token === undefined || !secretsEqual(token, adminToken)) {
      throw new AppError('unauthorized');
    }
    await next();
    c.header('cache-control', 'no-store');
  };
}
