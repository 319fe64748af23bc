/** HTTP as bytes on a socket, for what no client library would send and for answers that it would hide. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface RawAnswer {
  /** Null: the connection was closed without an answer. */
  readonly status: number | null;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
  /** Everything that came, `100 Continue` included. */
  readonly text: string;
  /** How long the connection was open. */
  readonly ms: number;
}

/** Opens a connection that does not mind being reset. */
export async function openSocket(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/**
 * Sends the parts one after the other and reads until the server closes, or until what came satisfies `isEnough`.
 * The last answer on the connection is the one returned.
 */
export async function exchange(
  port: number,
  parts: readonly (string | Buffer)[],
  isEnough: (text: string) => boolean = () => false,
): Promise<RawAnswer> {
  const startedAt = performance.now();
  const socket = await openSocket(port);
  const received: Buffer[] = [];
  const textOf = () => Buffer.concat(received).toString('latin1');
  socket.on('data', (chunk: Buffer) => {
    received.push(chunk);
    if (isEnough(textOf())) socket.destroy();
  });
  // Not `once` of node:events, which takes a reset for a failure.
  const closed = new Promise((resolve) => socket.on('close', resolve));
  for (const part of parts) socket.write(part);
  await closed;
  return answerOf(textOf(), performance.now() - startedAt);
}

function answerOf(text: string, ms: number): RawAnswer {
  const last = text.replace(/^HTTP\/1\.1 100 [^\r]*\r\n\r\n/, '');
  const [head = '', body = ''] = last.split(/\r\n\r\n/, 2);
  const [first = '', ...lines] = head.split('\r\n');
  const status = /^HTTP\/1\.1 (\d{3})/.exec(first)?.[1];
  const headers = new Map(
    lines.map((line) => [
      line.slice(0, line.indexOf(':')).toLowerCase(),
      line.slice(line.indexOf(':') + 1).trim(),
    ]),
  );
  return { status: status === undefined ? null : Number(status), headers, body, text, ms };
}
