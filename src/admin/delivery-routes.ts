/** /admin/dead-letters and /admin/parked-users */
import { Hono } from 'hono';
import type { Sql } from '../db/client.ts';
import * as answers from './answers.ts';
import { listDeadLetters, listParkedUsers } from './deliveries.ts';
import { describe } from './describe.ts';
import * as input from './input.ts';
import { validQuery } from './validated.ts';

export function deliveryRoutes({ sql }: { readonly sql: Sql }) {
  return new Hono()
    .get(
      '/dead-letters',
      describe({
        tag: 'Deliveries',
        summary: 'List events that were given up',
        description: 'The newest event first. A replay with `deadLettersOnly` sends them again.',
        answer: answers.listOf(answers.deadLetter),
      }),
      validQuery(input.deliveryPage),
      async (c) => c.json(await listDeadLetters(sql, c.req.valid('query'))),
    )
    .get(
      '/parked-users',
      describe({
        tag: 'Deliveries',
        summary: 'List users who wait for a retry',
        description: 'Their later events wait with them; nobody else does.',
        answer: answers.listOf(answers.parkedUser),
      }),
      validQuery(input.deliveryPage),
      async (c) => c.json(await listParkedUsers(sql, c.req.valid('query'))),
    );
}
