/**
 * Listens, and leaves in order: no new connections, requests under way are answered, idle connections end. The
 * listening socket can be given to another process, which then accepts in its place without a gap.
 */
import type { SendHandle } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { Server as NetServer } from 'node:net';
import { getRequestListener } from '@hono/node-server';
import type { Hono } from 'hono';
import { maxBodyBytes } from '../ingest/limits.ts';

/** Slow clients are cut off: headers within 10 s, a whole request within 30 s, the interval of looking included. */
const timeouts = {
  headersTimeout: 9_000,
  requestTimeout: 29_000,
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 1_000,
};
const closeMs = 10_000;
const backlog = 1_024;

/** What listens; may be sent to a child or parent process, and stays open there when it is closed here. */
export type ListeningSocket = NonNullable<SendHandle>;

export interface HttpServer {
  readonly port: number;
  readonly socket: ListeningSocket;
  /** Idle connections are cut, requests under way have 10 s. Also ends a `retire` early. */
  close(): Promise<void>;
  /**
   * Accepts no more and resolves when the last connection has ended by itself: after its next answer, which says
   * so, or when its keep-alive time is over.
   */
  retire(): Promise<void>;
}

type Listenable = Pick<Hono, 'fetch'>;
type Place = { readonly host: string; readonly port: number };

/** Listens at an address, or on the socket of another process. @throws the listen error (EADDRINUSE, EACCES, …). */
export async function listen(app: Listenable, place: Place, given?: ListeningSocket): Promise<HttpServer> {
  const handle = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const server = createServer(
    { ...timeouts, maxHeaderSize: 16_384 },
    (request, response) => void handle(request, response),
  );
  // Who asks first with `Expect: 100-continue` need not send a body that is too long for every route.
  server.on('checkContinue', (request, response) => {
    if (!(Number(request.headers['content-length']) > maxBodyBytes)) response.writeContinue();
    void handle(request, response);
  });
  const closed = new Promise<void>((resolve) => server.once('close', resolve));
  const listening = once(server, 'listening');
  if (given) server.listen(given, backlog);
  else server.listen({ host: place.host, port: place.port, backlog });
  await listening;
  const address = server.address();
  return {
    port: typeof address === 'object' && address ? address.port : place.port,
    // A net.Server sent to a process starts accepting there on arrival, wanted or not; what it holds does not.
    socket: (server as unknown as { _handle: ListeningSocket })._handle,
    async close() {
      stopAccepting(server);
      server.closeIdleConnections();
      const timer = setTimeout(() => server.closeAllConnections(), closeMs);
      await closed;
      clearTimeout(timer);
    },
    retire() {
      stopAccepting(server);
      return closed;
    },
  };
}

function stopAccepting(server: Server): void {
  if (!server.listening) return;
  // Whoever keeps a connection open learns with the next answer that it is going away.
  server.prependListener('request', (_request, response) => response.setHeader('connection', 'close'));
  // Not close() of node:http: that cuts idle connections, and a request may be on its way on one of them.
  NetServer.prototype.close.call(server);
}
