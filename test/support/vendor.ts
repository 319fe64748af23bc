/**
 * A vendor's HTTP endpoint for tests: a real server on loopback that keeps every request in order, as it came,
 * and behaves as a script tells it, well or badly. Nothing is answered before the request has been read whole.
 */
import { EventEmitter, once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { setInterval, setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';

export interface VendorRequest {
  /** 0 for the first that arrived. */
  readonly index: number;
  readonly method: string;
  /** With the query. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  /** Names and values in turn, as they were sent. */
  readonly rawHeaders: readonly string[];
  /** The body's bytes as text. */
  readonly body: string;
  /** Number of the connection it came on, from 0. */
  readonly connection: number;
  /** Unix time in milliseconds when it had been read whole. */
  readonly arrivedAt: number;
  /** When the answer had been written; null while it has not. */
  readonly answeredAt: number | null;
  /** Bytes of body that were written to the connection. */
  readonly sentBytes: number;
  /** Resolves when its connection has closed. */
  readonly closed: Promise<void>;
}

export interface VendorAnswer {
  /** 200 if absent. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string | readonly string[]>>;
  readonly body?: string;
  /** The body as JSON, with its content type. */
  readonly json?: unknown;
  /** Compresses the body and says so, asked or not. */
  readonly gzip?: boolean;
  /** Waits before the head. */
  readonly delayMs?: number;
  /** After the body so many bytes of `x`. */
  readonly hugeBytes?: number;
  /** After that one byte more each so many milliseconds, without end. */
  readonly dripMs?: number;
  /** After the body the connection is cut, though more was announced. */
  readonly cut?: boolean;
}

/** `reset`: the connection is closed without an answer. `never`: it stays open without one. */
export type Behaviour = VendorAnswer | 'reset' | 'never';

/** One for each request, the last for all that follow; or a function that decides. */
export type Script = readonly Behaviour[] | ((request: VendorRequest) => Behaviour | Promise<Behaviour>);

export interface Vendor {
  /** `http://127.0.0.1:41234` */
  readonly origin: string;
  readonly requests: readonly VendorRequest[];
  /** Connections made so far. */
  readonly connections: number;
  /** Forgets what came and behaves like this from now on. */
  play(script: Script): void;
  /** Resolves when so many requests have come since the last `play`. */
  received(count: number): Promise<void>;
  close(): Promise<void>;
}

interface Connection {
  readonly number: number;
  readonly closed: Promise<void>;
}

type Kept = { -readonly [Key in keyof VendorRequest]: VendorRequest[Key] };

/** Starts it; answers 200 and `{}` unless told otherwise. */
export async function startVendor(script: Script = [{ json: {} }]): Promise<Vendor> {
  const news = new EventEmitter();
  let playing = script;
  let requests: Kept[] = [];
  let connections = 0;
  const connected = new WeakMap<Socket, Connection>();
  const handle = async (incoming: IncomingMessage, response: ServerResponse) => {
    const request = await read(incoming, connected.get(incoming.socket) as Connection);
    if (request === null) return;
    request.index = requests.push(request) - 1;
    news.emit('request');
    await behave(await behaviourFor(request, playing), request, response);
  };
  const server = createServer((incoming, response) => void handle(incoming, response));
  server.on('connection', (socket) => {
    const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
    connected.set(socket, { number: connections++, closed });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    get requests() {
      return requests;
    },
    get connections() {
      return connections;
    },
    play(next) {
      playing = next;
      requests = [];
    },
    async received(count) {
      while (requests.length < count) await once(news, 'request');
    },
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}

async function behaviourFor(request: VendorRequest, script: Script): Promise<Behaviour> {
  if (typeof script === 'function') return script(request);
  return script[Math.min(request.index, script.length - 1)] ?? {};
}

/** Null when the client went away in the middle. */
async function read(incoming: IncomingMessage, { number, closed }: Connection): Promise<Kept | null> {
  const { method = '', url: path = '', headers, rawHeaders } = incoming;
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
  } catch {
    return null;
  }
  const body = Buffer.concat(chunks).toString();
  const arrivedAt = Date.now();
  const sent = { answeredAt: null, sentBytes: 0 };
  return {
    index: -1,
    method,
    path,
    headers,
    rawHeaders,
    body,
    connection: number,
    arrivedAt,
    closed,
    ...sent,
  };
}

async function behave(behaviour: Behaviour, request: Kept, response: ServerResponse): Promise<void> {
  if (behaviour === 'never') return;
  if (behaviour === 'reset') return void response.socket?.resetAndDestroy();
  if (behaviour.delayMs !== undefined) await sleep(behaviour.delayMs, undefined, { ref: false });
  const text = behaviour.json === undefined ? (behaviour.body ?? '') : JSON.stringify(behaviour.json);
  const body = behaviour.gzip ? gzipSync(text) : Buffer.from(text);
  const headers = Object.entries({
    ...(behaviour.json !== undefined && { 'content-type': 'application/json' }),
    ...(behaviour.gzip && { 'content-encoding': 'gzip' }),
    ...(behaviour.cut && { 'content-length': String(body.length + 1_000) }),
    ...behaviour.headers,
  });
  const lines = headers.flatMap(([name, value]) => [value].flat().flatMap((each) => [name, each]));
  response.writeHead(behaviour.status ?? 200, lines);
  response.flushHeaders();
  if (behaviour.cut) return void response.write(body, () => response.socket?.destroy());
  try {
    await pipeline(bodyOf(body, behaviour, request), response);
    request.answeredAt = Date.now();
  } catch (error) {
    // The client has gone.
    if ((error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
  }
}

async function* bodyOf(body: Buffer, behaviour: VendorAnswer, request: Kept): AsyncGenerator<Buffer> {
  const { dripMs, hugeBytes = 0 } = behaviour;
  const count = (bytes: Buffer) => {
    request.sentBytes += bytes.length;
    return bytes;
  };
  if (body.length > 0) yield count(body);
  for (let left = hugeBytes; left > 0; left -= 65_536) yield count(Buffer.alloc(Math.min(left, 65_536), 'x'));
  if (dripMs === undefined) return;
  for await (const _ of setInterval(dripMs)) yield count(Buffer.from('.'));
}
