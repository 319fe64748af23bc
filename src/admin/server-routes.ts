/** /admin/reload */
import { Hono } from 'hono';
import { AppError } from '../lib/errors.ts';
import * as answers from './answers.ts';
import { describe } from './describe.ts';

export interface ServerDeps {
  /** Resolves when a new process accepts requests; null where processes are replaced from outside. */
  readonly reload: (() => Promise<void>) | null;
}

export function serverRoutes({ reload }: ServerDeps) {
  return new Hono().post(
    '/reload',
    describe({
      tag: 'Server',
      summary: 'Replace the server process',
      description:
        'Starts a new process, which takes over the listening socket; the one before finishes what it has. No ' +
        'connection is refused. When the new one does not start, the one before goes on and the answer says why.',
      answer: answers.reloaded,
      errors: ['conflict', 'reload_failed'],
    }),
    async (c) => {
      if (!reload) throw new AppError('not_found', { message: 'This process cannot replace itself.' });
      await reload();
      return c.json({ reloaded: true });
    },
  );
}
