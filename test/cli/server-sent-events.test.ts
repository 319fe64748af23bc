/** Server-sent events: the text format, and following a stream over broken connections without loss. */
import assert from 'node:assert/strict';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { createClient } from '../../src/cli/client.ts';
import { ApiError } from '../../src/cli/failure.ts';
import {
  followServerSentEvents,
  parseServerSentEvents,
  type ServerSentEvent,
} from '../../src/cli/server-sent-events.ts';
import { type Route, startStandIn } from './stand-in.ts';

const text = [
  'retry: 1000\n\n',
  ': a comment\n\n',
  'id: 1\ndata: {"a":1}\n\n',
  'event: dropped\r\ndata: {"count":2}\r\n\r\n',
  'data: two\rdata:lines\r\r',
  'id: 7\nevent: x\n\n',
  'data: größe 日本 👍\nid\n\n',
  'data: unfinished',
].join('');

const messages: ServerSentEvent[] = [
  { id: '1', event: 'message', data: '{"a":1}' },
  { id: '1', event: 'dropped', data: '{"count":2}' },
  { id: '1', event: 'message', data: 'two\nlines' },
  { id: '', event: 'message', data: 'größe 日本 👍' },
];

async function parse(chunks: readonly Uint8Array[]): Promise<ServerSentEvent[]> {
  const found: ServerSentEvent[] = [];
  for await (const message of parseServerSentEvents(ReadableStream.from(chunks))) found.push(message);
  return found;
}

test('the format of the standard, however it is cut into chunks', async () => {
  const bytes = new TextEncoder().encode(text);
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 0, max: bytes.length }), { maxLength: 20 }), async (cuts) => {
      const places = [0, ...cuts.sort((left, right) => left - right), bytes.length];
      const chunks = places.slice(1).map((end, index) => bytes.slice(places[index], end));
      assert.deepEqual(await parse(chunks), messages);
    }),
  );
});

function send(response: ServerResponse, ...ids: number[]): void {
  if (!response.headersSent) response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write(ids.map((id) => `id: ${id}\ndata: event ${id}\n\n`).join(''));
}

async function follow(route: Route, count: number, silenceMs = 60_000) {
  const standIn = await startStandIn({ 'GET /admin/events/stream': route });
  const client = createClient({ baseUrl: standIn.url, token: 't' });
  const stop = new AbortController();
  const data: string[] = [];
  const states: string[] = [];
  try {
    const options = {
      signal: stop.signal,
      silenceMs,
      onConnection: (state: string) => void states.push(state),
    };
    for await (const message of followServerSentEvents(client, '/admin/events/stream', options)) {
      data.push(message.data);
      if (data.length === count) stop.abort();
    }
  } finally {
    await standIn.close();
  }
  return { data, states, resumed: standIn.seen.map(({ headers }) => headers['last-event-id']) };
}

test('goes on after the last id when the connection ends, breaks in the middle, or the server is away', async () => {
  let connection = 0;
  const { data, states, resumed } = await follow((_request, response) => {
    connection++;
    if (connection === 3) return { status: 503, json: { code: 'overloaded', message: 'busy' } };
    if (connection === 1) {
      send(response, 1, 2);
      response.end();
    } else if (connection === 2) {
      send(response, 3);
      response.write('id: 4\ndata: ev', () => response.destroy());
    } else send(response, 4, 5);
    return undefined;
  }, 5);
  assert.deepEqual(data, ['event 1', 'event 2', 'event 3', 'event 4', 'event 5']);
  assert.deepEqual(resumed, [undefined, '2', '3', '3']);
  assert.deepEqual(states, ['lost', 'back', 'lost', 'back']);
});

test('a connection that falls silent, heartbeats too, is given up; one with heartbeats is not', async () => {
  let connection = 0;
  const { data, resumed } = await follow(
    (_request, response) => {
      if (++connection === 1) return send(response, 1);
      const heartbeat = setInterval(() => response.write(': here\n\n'), 50);
      response.on('close', () => clearInterval(heartbeat));
      setTimeout(() => send(response, 2), 500);
    },
    2,
    250,
  );
  assert.deepEqual(data, ['event 1', 'event 2']);
  assert.deepEqual(resumed, [undefined, '1']);
});

test('a refusal ends it: at the first connection any, later what would come again', async () => {
  const refuse = (status: number) => ({ status, json: { code: 'x', message: 'no' } });
  await assert.rejects(
    follow(() => refuse(503), 1),
    ApiError,
  );
  let connection = 0;
  await assert.rejects(
    follow((_request, response) => {
      if (++connection > 1) return refuse(404);
      send(response, 1);
      response.end();
      return undefined;
    }, 2),
    ApiError,
  );
});
