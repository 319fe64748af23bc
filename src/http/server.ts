/** Listens, and closes in order: no new connections, requests under way are answered, idle connections end. */
import { createServer, type Server } from 'node:http';
import { getRequestListener } from '@hono/node-server';
import type { Hono } from 'hono';

/** Slow clients: headers within 10 s, a whole request within 30 s, else the connection is closed. */
const timeouts = {
  headersTimeout: 10_000,
  requestTimeout: 30_000,
  keepAliveTimeout: 65_000,
  connectionsCheckingInterval: 5_000,
};
const closeMs = 10_000;

export interface HttpServer {
  readonly port: number;
  close(): Promise<void>;
}

/** @throws the listen error (EADDRINUSE, EACCES, …). */
export async function listen(
  app: Pick<Hono, 'fetch'>,
  options: { readonly host: string; readonly port: number },
): Promise<HttpServer> {
  const handle = getRequestListener(app.fetch, { overrideGlobalObjects: false });
  const server = createServer(
    { ...timeouts, maxHeaderSize: 16_384 },
    (request, response) => void handle(request, response),
  );
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: options.host, port: options.port, backlog: 1_024 }, () =>
      resolve(server.off('error', reject) && undefined),
    );
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address ? address.port : options.port,
    close: () => close(server),
  };
}

async function close(server: Server): Promise<void> {
  // Whoever keeps a connection open learns with the next answer that it is going away.
  server.prependListener('request', (_request, response) => response.setHeader('connection', 'close'));
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), closeMs);
  await closed;
  clearTimeout(timer);
}
