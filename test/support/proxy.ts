/**
 * A TCP proxy in front of Postgres that can hold back an answer, as a network or a process that stalls does: the
 * statement is carried out, and who asked for it does not hear of it yet.
 */
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface Proxy {
  /** The given connection string, through the proxy. */
  readonly url: string;
  /**
   * The answer to the next statement that holds these words is held back; resolves with a function that lets it go.
   * A statement that its connection has prepared before goes by name and is not recognised.
   */
  holdAnswerTo(words: string): Promise<() => void>;
  close(): Promise<void>;
}

interface Trap {
  readonly words: string;
  readonly sprung: (letGo: () => void) => void;
}

export async function startProxy(databaseUrl: string): Promise<Proxy> {
  const url = new URL(databaseUrl);
  const target = { host: url.hostname, port: Number(url.port) };
  const all = new Set<Socket>();
  const traps = new Set<Trap>();
  const watch = (chunk: Buffer, server: Socket) => {
    for (const trap of traps) {
      if (!chunk.includes(trap.words)) continue;
      traps.delete(trap);
      // The first answer describes the statement, which is carried out only then.
      server.once('data', () => server.pause());
      trap.sprung(() => server.resume());
    }
  };
  const proxy = createServer((client) => {
    const server = connect(target);
    client.on('data', (chunk) => {
      watch(chunk, server);
      server.write(chunk);
    });
    server.on('data', (chunk) => client.write(chunk));
    for (const [end, other] of [
      [client, server],
      [server, client],
    ] as const) {
      all.add(end);
      end.on('error', () => other.destroy());
      end.on('close', () => {
        all.delete(end);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  url.port = String((proxy.address() as AddressInfo).port);
  return {
    url: url.href,
    holdAnswerTo: (words) => new Promise((resolve) => traps.add({ words, sprung: resolve })),
    async close() {
      const closed = new Promise((resolve) => proxy.close(resolve));
      for (const socket of all) socket.destroy();
      await closed;
    },
  };
}
