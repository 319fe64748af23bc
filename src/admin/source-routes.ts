/** /admin/sources */
import { Hono } from 'hono';
import type { Sql } from '../db/client.ts';
import * as answers from './answers.ts';
import { describe } from './describe.ts';
import * as input from './input.ts';
import { createSource, listSources } from './sources.ts';
import { validBody, validQuery } from './validated.ts';

export function sourceRoutes({ sql }: { readonly sql: Sql }) {
  return new Hono()
    .post(
      '/',
      describe({
        tag: 'Sources',
        summary: 'Create a source',
        description: 'Makes a source with a write key, which an SDK needs to send events.',
        status: 201,
        answer: answers.source,
        errors: ['conflict'],
      }),
      validBody(input.newSource),
      async (c) => c.json(await createSource(sql, c.req.valid('json')), 201),
    )
    .get(
      '/',
      describe({ tag: 'Sources', summary: 'List sources', answer: answers.listOf(answers.source) }),
      validQuery(input.page),
      async (c) => c.json(await listSources(sql, c.req.valid('query'))),
    );
}
