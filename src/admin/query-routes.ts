/** /admin/sql */
import { Hono } from 'hono';
import * as answers from './answers.ts';
import { describe } from './describe.ts';
import * as input from './input.ts';
import type { RunQuery } from './query.ts';
import { validBody } from './validated.ts';

export function queryRoutes({ runQuery }: { readonly runQuery: RunQuery }) {
  return new Hono().post(
    '/',
    describe({
      tag: 'SQL',
      summary: 'Run one statement that reads',
      description:
        'In a read-only transaction, for at most 30 seconds. Values that JSON cannot hold exactly are texts.',
      answer: answers.queryResult,
      errors: ['query_failed', 'rate_limited'],
    }),
    validBody(input.query),
    async (c) => c.json(await runQuery(c.req.valid('json'))),
  );
}
