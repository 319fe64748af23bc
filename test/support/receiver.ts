/**
 * A receiver of webhooks: a real HTTP server in this process that records every attempt, with the times of its
 * arrival and its end by one monotonic clock, and answers as the test says. Several destinations may share it,
 * each by a path of its own; what is recorded there is one list in order of arrival.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { after } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

/** `hang`: no answer until the client gives up. `close`: the connection ends without one. */
export type Answer =
  | { readonly status: number; readonly retryAfterSeconds?: number; readonly delayMs?: number }
  | 'hang'
  | 'close';

/** One request as it came. */
export interface Attempt {
  readonly position: number;
  /** Decoded from `webhook-id`. */
  readonly messageId: string;
  readonly replayId: string | null;
  readonly userId: string | null;
  readonly anonymousId: string | null;
  /** `properties.seq`, the place of the event among its user's. */
  readonly seq: number | null;
  /** The body as it came, parsed. */
  readonly event: Readonly<Record<string, unknown>>;
  /** How many attempts of the same event, live or of the same replay, came before. */
  readonly earlier: number;
  /** By performance.now(). */
  readonly arrivedAt: number;
  /** When the answer was given or the connection ended; null while it is in flight. */
  endedAt: number | null;
  /** What was answered; null while in flight. */
  answer: Answer | null;
  /** The client had given up or was gone when the answer was written, so it knows nothing of it. */
  unheard: boolean;
}

export interface Inbox {
  readonly url: string;
  readonly attempts: readonly Attempt[];
  /** Decides on each attempt; at first everything is answered with 200. May be replaced at any time. */
  answer: (attempt: Attempt) => Answer | Promise<Answer>;
  /** Resolves when the condition holds; looked at again after each arrival and each end. @throws Error after the limit */
  until(what: string, holds: () => boolean, limitMs?: number): Promise<void>;
  /** Attempts without an end. */
  inFlight(): number;
  /** Begins a new record. */
  forget(): void;
}

export interface Receiver {
  /** What comes to a path of its own. */
  inbox(name: string): Inbox;
  close(): Promise<void>;
}

const ok: Answer = { status: 200 };

const open = new Set<Receiver>();
after(async () => {
  for (const receiver of open) await receiver.close();
});

/** Starts on any free port of loopback; closed with the test file at the latest. */
export async function startReceiver(): Promise<Receiver> {
  const inboxes = new Map<string, RecordingInbox>();
  const sockets = new Set<Socket>();
  const server = createServer((request, response) => {
    const inbox = inboxes.get(request.url ?? '');
    if (inbox) void inbox.take(request, response);
    else response.writeHead(404).end();
  });
  server.keepAliveTimeout = 60_000;
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const receiver: Receiver = {
    inbox(name) {
      const inbox = new RecordingInbox(`http://127.0.0.1:${port}/${name}`);
      inboxes.set(`/${name}`, inbox);
      return inbox;
    },
    async close() {
      if (!open.delete(receiver)) return;
      const closed = new Promise((resolve) => server.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
  open.add(receiver);
  return receiver;
}

class RecordingInbox implements Inbox {
  readonly url: string;
  readonly attempts: Attempt[] = [];
  answer: Inbox['answer'] = () => ok;
  readonly #counts = new Map<string, number>();
  readonly #watchers = new Set<() => void>();

  constructor(url: string) {
    this.url = url;
  }

  async take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const arrivedAt = performance.now();
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      // The sender was killed in the middle of its request: nothing was delivered.
      return;
    }
    const attempt = this.#record(request, Buffer.concat(chunks).toString('utf8'), arrivedAt);
    response.on('close', () => this.#end(attempt, 'close'));
    this.#changed();
    const answer = await this.answer(attempt);
    if (answer === 'close') {
      this.#end(attempt, answer);
      request.socket.destroy();
    } else if (answer === 'hang') attempt.answer = answer;
    else await this.#respond(attempt, answer, response);
  }

  inFlight(): number {
    return this.attempts.filter((attempt) => attempt.endedAt === null).length;
  }

  forget(): void {
    this.attempts.length = 0;
    this.#counts.clear();
  }

  until(what: string, holds: () => boolean, limitMs = 15_000): Promise<void> {
    if (holds()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const look = () => {
        if (!holds()) return;
        clearTimeout(late);
        this.#watchers.delete(look);
        resolve();
      };
      const late = setTimeout(() => {
        this.#watchers.delete(look);
        reject(new Error(`After ${limitMs} ms, ${this.attempts.length} attempts: ${what}: not yet.`));
      }, limitMs);
      this.#watchers.add(look);
    });
  }

  #record(request: IncomingMessage, body: string, arrivedAt: number): Attempt {
    const header = (name: string) => (request.headers[name] as string | undefined) ?? null;
    const event = JSON.parse(body) as Record<string, unknown>;
    const position = Number(header('x-repeater-position'));
    const replayId = header('x-replay-id');
    const key = `${replayId ?? 'live'}:${position}`;
    const earlier = this.#counts.get(key) ?? 0;
    this.#counts.set(key, earlier + 1);
    const seq = (event['properties'] as { seq?: unknown } | undefined)?.seq;
    const attempt: Attempt = {
      position,
      messageId: decodeURIComponent(header('webhook-id') ?? ''),
      replayId,
      userId: textOrNull(event['userId']),
      anonymousId: textOrNull(event['anonymousId']),
      seq: typeof seq === 'number' ? seq : null,
      event,
      earlier,
      arrivedAt,
      endedAt: null,
      answer: null,
      unheard: false,
    };
    this.attempts.push(attempt);
    return attempt;
  }

  async #respond(attempt: Attempt, answer: Exclude<Answer, string>, response: ServerResponse): Promise<void> {
    if (answer.delayMs !== undefined) await sleep(answer.delayMs);
    // The client gave up meanwhile; then it has not got this answer.
    if (attempt.endedAt !== null) return;
    this.#end(attempt, answer);
    const { status, retryAfterSeconds } = answer;
    response.writeHead(
      status,
      retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) },
    );
    response.end();
    // In a busy moment the client's end of the connection is read only after the answer has been written.
    setImmediate(() => setImmediate(() => (attempt.unheard = isGone(response))));
  }

  #end(attempt: Attempt, answer: Answer): void {
    if (attempt.endedAt !== null) return;
    attempt.endedAt = performance.now();
    attempt.answer ??= answer;
    this.#changed();
  }

  #changed(): void {
    for (const look of this.#watchers) look();
  }
}

function isGone({ req: { socket } }: ServerResponse): boolean {
  return socket.destroyed || socket.readableEnded;
}

function textOrNull(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}
