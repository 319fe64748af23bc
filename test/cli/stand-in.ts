/**
 * A tiny HTTP server in the place of the admin API, and the command line run against it in this process with
 * streams of our own. Every request is kept as it came, so a test can say what a command asked for.
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable, Writable } from 'node:stream';
import { runCommandLine } from '../../src/cli/command-line.ts';

export interface SeenRequest {
  /** `GET /admin/sources?limit=1000` */
  readonly line: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingMessage['headers'];
  readonly body: unknown;
}

export interface Answer {
  readonly status?: number;
  readonly json?: unknown;
  readonly text?: string;
}

/** Gives an answer, or writes to the response itself and gives none. */
export type Route = (
  request: SeenRequest,
  response: ServerResponse,
) => Answer | void | Promise<Answer | void>;

export interface StandIn {
  readonly url: string;
  readonly port: number;
  readonly seen: SeenRequest[];
  /** Bodies of the requests to one route, e.g. `POST /admin/replays`. */
  bodies(route: string): unknown[];
  close(): Promise<void>;
}

/** Starts it; `routes` by `METHOD /path`. */
export async function startStandIn(routes: Readonly<Record<string, Route>>, port = 0): Promise<StandIn> {
  const seen: SeenRequest[] = [];
  const server = createServer((request, response) => void respond(routes, seen, { request, response }));
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${address.port}`,
    port: address.port,
    seen,
    bodies: (route) => seen.filter(({ line }) => line.split('?')[0] === route).map(({ body }) => body),
    close: () => close(server),
  };
}

async function respond(
  routes: Readonly<Record<string, Route>>,
  seen: SeenRequest[],
  { request, response }: { request: IncomingMessage; response: ServerResponse },
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString();
  const url = new URL(request.url ?? '/', 'http://stand-in');
  const line = `${request.method} ${request.url}`;
  const { pathname: path, searchParams: query } = url;
  const body: unknown = text === '' ? undefined : JSON.parse(text);
  const kept = { line, path, query, headers: request.headers, body };
  seen.push(kept);
  const route = routes[`${request.method} ${path}`];
  const missing = { status: 404, json: { code: 'not_found', message: 'There is nothing here.' } };
  const answer: Answer | void = route ? await route(kept, response) : missing;
  if (!answer) return;
  response.writeHead(answer.status ?? 200, {
    'content-type': answer.text === undefined ? 'application/json' : 'text/html',
  });
  response.end(answer.text ?? JSON.stringify(answer.json));
}

async function close(server: Server): Promise<void> {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
}

/** A stream that keeps what is written; `columns` makes it a terminal. */
export class KeptStream extends Writable {
  readonly isTTY: boolean;
  readonly columns: number | undefined;
  #chunks: Buffer[] = [];

  constructor(columns?: number) {
    super();
    this.isTTY = columns !== undefined;
    this.columns = columns;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.#chunks.push(chunk);
    this.emit('kept');
    done();
  }

  get text(): string {
    return Buffer.concat(this.#chunks).toString();
  }

  get lines(): string[] {
    return this.text.split('\n').slice(0, -1);
  }
}

export interface RunOptions {
  readonly standIn?: Pick<StandIn, 'url'>;
  /** Makes stdout and stderr terminals of this width. */
  readonly columns?: number;
  readonly stdin?: string;
  readonly now?: () => Date;
  readonly environment?: Readonly<Record<string, string>>;
  readonly stdout?: KeptStream;
}

export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly lines: string[];
}

export const adminToken = 'stand-in-token';

/** Runs `repeater ...argv`. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const { standIn, columns, stdin, now } = options;
  const stdout = options.stdout ?? new KeptStream(columns);
  const stderr = new KeptStream(columns);
  const code = await runCommandLine(argv, {
    streams: { stdin: Readable.from(stdin === undefined ? [] : [stdin]), stdout, stderr },
    environment: {
      DATA_DIR: '/nonexistent/repeater',
      ...(standIn ? { REPEATER_URL: standIn.url, ADMIN_TOKEN: adminToken } : {}),
      ...options.environment,
    },
    pollMs: 10,
    ...(now ? { now } : {}),
  });
  return { code, stdout: stdout.text, stderr: stderr.text, lines: stdout.lines };
}
