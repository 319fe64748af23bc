/** /admin/replays */
import { Hono } from 'hono';
import * as answers from './answers.ts';
import { describe } from './describe.ts';
import * as input from './input.ts';
import * as verbs from './replays.ts';
import { validBody, validQuery } from './validated.ts';

const tag = 'Replays';

export function replayRoutes(deps: verbs.ReplayDeps) {
  return new Hono()
    .post(
      '/preview',
      describe({
        tag,
        summary: 'Count what a replay would send',
        description: 'Times are those of acceptance (`receivedAt`). Sends nothing.',
        answer: answers.preview,
        errors: ['not_found'],
      }),
      validBody(input.newReplay),
      async (c) => c.json(await verbs.previewNewReplay(deps, c.req.valid('json'))),
    )
    .post(
      '/',
      describe({
        tag,
        summary: 'Start a replay',
        description:
          'Sends the selected events again, each user’s in order. The set is fixed at this moment: events accepted ' +
          'later are not in it. Times are those of acceptance (`receivedAt`), `from` inclusive, `to` exclusive.',
        status: 201,
        answer: answers.replay,
        errors: ['not_found'],
      }),
      validBody(input.newReplay),
      async (c) => c.json(await verbs.startReplay(deps, c.req.valid('json')), 201),
    )
    .get(
      '/',
      describe({ tag, summary: 'List replays, the newest first', answer: answers.listOf(answers.replay) }),
      validQuery(input.replayPage),
      async (c) => c.json(await verbs.pageReplays(deps, c.req.valid('query'))),
    )
    .get(
      '/:id',
      describe({ tag, summary: 'Show a replay', answer: answers.replay, errors: ['not_found'] }),
      async (c) => c.json(await verbs.showReplay(deps, c.req.param('id'))),
    )
    .patch(
      '/:id',
      describe({
        tag,
        summary: 'Change the rate of a replay',
        answer: answers.replay,
        errors: ['not_found', 'conflict'],
      }),
      validBody(input.replayChange),
      async (c) =>
        c.json(await verbs.changeReplay(deps, c.req.param('id'), c.req.valid('json').ratePerSecond)),
    )
    .post(
      '/:id/pause',
      describe({ tag, summary: 'Pause a replay', answer: answers.replay, errors: ['not_found', 'conflict'] }),
      async (c) => c.json(await verbs.actOnReplay(deps, c.req.param('id'), 'pause')),
    )
    .post(
      '/:id/resume',
      describe({
        tag,
        summary: 'Go on with a paused replay',
        answer: answers.replay,
        errors: ['not_found', 'conflict'],
      }),
      async (c) => c.json(await verbs.actOnReplay(deps, c.req.param('id'), 'resume')),
    )
    .post(
      '/:id/cancel',
      describe({
        tag,
        summary: 'Cancel a replay',
        answer: answers.replay,
        errors: ['not_found', 'conflict'],
      }),
      async (c) => c.json(await verbs.actOnReplay(deps, c.req.param('id'), 'cancel')),
    );
}
