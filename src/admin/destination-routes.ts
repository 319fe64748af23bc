/** /admin/destination-types and /admin/destinations */
import { Hono } from 'hono';
import * as answers from './answers.ts';
import { describe } from './describe.ts';
import { readDestinationStatus } from './destination-status.ts';
import * as verbs from './destinations.ts';
import * as input from './input.ts';
import { validBody, validQuery } from './validated.ts';

export function destinationTypeRoutes({ catalogue }: verbs.DestinationDeps) {
  return new Hono().get(
    '/',
    describe({
      tag: 'Destinations',
      summary: 'List the types of destinations',
      description: 'With the JSON Schema of their settings; `writeOnly` marks secrets.',
      answer: answers.listOf(answers.destinationType),
    }),
    validQuery(input.page),
    (c) => {
      const data = catalogue.list().map(({ definition, settingsSchema }) => {
        const { slug, name, description, accepts, limits, replay } = definition;
        return { slug, name, description, accepts, limits, replay, settingsSchema };
      });
      return c.json({ data, next: null });
    },
  );
}

export function destinationRoutes(deps: verbs.DestinationDeps) {
  return new Hono()
    .post(
      '/',
      describe({
        tag: 'Destinations',
        summary: 'Create a destination',
        description: 'Delivery starts at once. A secret that was generated is shown in this answer only.',
        status: 201,
        answer: answers.destination,
        errors: ['blocked_address'],
      }),
      validBody(input.newDestination),
      async (c) => c.json(await verbs.createDestination(deps, c.req.valid('json')), 201),
    )
    .get(
      '/',
      describe({
        tag: 'Destinations',
        summary: 'List destinations',
        answer: answers.listOf(answers.destination),
      }),
      validQuery(input.page),
      async (c) => c.json(await verbs.listDestinations(deps, c.req.valid('query'))),
    )
    .get(
      '/:id',
      describe({
        tag: 'Destinations',
        summary: 'Show a destination',
        answer: answers.destination,
        errors: ['not_found'],
      }),
      async (c) => c.json(await verbs.findDestination(deps, c.req.param('id'))),
    )
    .patch(
      '/:id',
      describe({
        tag: 'Destinations',
        summary: 'Change a destination',
        answer: answers.destination,
        errors: ['not_found', 'blocked_address', 'conflict'],
      }),
      validBody(input.destinationChange),
      async (c) => c.json(await verbs.changeDestination(deps, c.req.param('id'), c.req.valid('json'))),
    )
    .delete(
      '/:id',
      describe({
        tag: 'Destinations',
        summary: 'Delete a destination',
        description:
          'Its feeds are cancelled and its secrets forgotten; dead letters and replays stay readable.',
        status: 204,
        errors: ['not_found'],
      }),
      async (c) => {
        await verbs.deleteDestination(deps, c.req.param('id'));
        return c.body(null, 204);
      },
    )
    .get(
      '/:id/status',
      describe({
        tag: 'Destinations',
        summary: 'Show how far a destination is',
        description: 'Of its live feed and of each replay that has not ended.',
        answer: answers.destinationStatus,
        errors: ['not_found'],
      }),
      async (c) => c.json(await readDestinationStatus(deps.sql, c.req.param('id'))),
    );
}
