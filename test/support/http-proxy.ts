/**
 * Stands between an SDK and the program, keeps what passes and does what networks do: answers get lost after the
 * request was carried out, come late, or the connection ends before anything was carried out.
 */
import { once } from 'node:events';
import {
  createServer,
  type IncomingHttpHeaders,
  type IncomingMessage,
  request,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';

/** `lose`: carried out, and no answer. `refuse`: not carried out. `delay`: carried out, the answer comes late. */
export type Accident = 'lose' | 'refuse' | 'delay' | null;

export type Json = Record<string, unknown>;

interface Passed {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** What the body holds, once decoded: the events of a batch, or the one. */
  readonly events: readonly Json[];
}

export interface HttpProxy {
  readonly url: string;
  /** Requests with a body that reached the program, in order. */
  readonly passed: readonly Passed[];
  /** What happens to the next requests with a body, one after the other; nothing to those after them. */
  accidents: Accident[];
  close(): Promise<void>;
}

const delayMs = 700;

/** Starts one in front of an address. */
export async function startHttpProxy(target: string): Promise<HttpProxy> {
  const passed: Passed[] = [];
  const handle = async (asked: IncomingMessage, response: ServerResponse) => {
    const body = await buffer(asked);
    const accident = body.length > 0 ? (started.accidents.shift() ?? null) : null;
    if (accident === 'refuse') {
      asked.socket.destroy();
      return;
    }
    const answer = await forward(target, asked, body);
    const content = await buffer(answer);
    if (body.length > 0)
      passed.push({ path: asked.url ?? '', headers: asked.headers, events: eventsOf(body) });
    if (accident === 'lose') {
      asked.socket.destroy();
      return;
    }
    if (accident === 'delay') await sleep(delayMs);
    const { 'transfer-encoding': _coding, connection: _connection, ...headers } = answer.headers;
    response.writeHead(answer.statusCode ?? 500, headers).end(content);
  };
  const server = createServer((asked, response) => {
    handle(asked, response).catch(() => asked.socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const started: HttpProxy = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    passed,
    accidents: [],
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
  return started;
}

/** With the host that was asked for: what the program says about its own address then leads back here. */
async function forward(target: string, asked: IncomingMessage, body: Buffer): Promise<IncomingMessage> {
  const { connection: _connection, 'transfer-encoding': _coding, ...headers } = asked.headers;
  const sent = request(`${target}${asked.url}`, {
    method: asked.method,
    headers: { ...headers, ...(body.length > 0 ? { 'content-length': body.length } : {}) },
  });
  sent.end(body);
  const [answer] = (await once(sent, 'response')) as [IncomingMessage];
  return answer;
}

function eventsOf(body: Buffer): readonly Json[] {
  const plain = body[0] === 0x1f && body[1] === 0x8b ? gunzipSync(body) : body;
  const content = JSON.parse(plain.toString()) as Json & { batch?: Json[] };
  return content.batch ?? [content];
}
