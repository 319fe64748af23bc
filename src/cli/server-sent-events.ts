/**
 * Follows a stream of server-sent events for as long as wanted. Promises that nothing is lost or repeated
 * over broken connections: it reconnects by itself and goes on after the last id it handed out.
 */
import type { Client, Query } from './client.ts';
import { ApiError, CommandError } from './failure.ts';
import { pause } from './pause.ts';

export interface ServerSentEvent {
  readonly id: string | null;
  /** `message` unless the server says otherwise. */
  readonly event: string;
  readonly data: string;
}

export interface FollowOptions {
  readonly query?: Query;
  /** Go on after this id. */
  readonly lastEventId?: string;
  readonly signal: AbortSignal;
  /** Told when the connection is lost, and when it is back. */
  readonly onConnection?: (state: 'lost' | 'back') => void;
  /** Silence, heartbeats included, after which a connection counts as dead. */
  readonly silenceMs?: number;
}

const firstDelayMs = 500;
const longestDelayMs = 10_000;

/**
 * Yields messages until the signal aborts.
 * @throws ApiError or CommandError when the first connection fails, or a later one is refused for good.
 */
export async function* followServerSentEvents(
  client: Client,
  path: string,
  options: FollowOptions,
): AsyncGenerator<ServerSentEvent> {
  const { signal, onConnection, silenceMs = 60_000 } = options;
  let lastId = options.lastEventId;
  let delayMs = firstDelayMs;
  let isFirst = true;
  let isLost = false;
  while (!signal.aborted) {
    const silence = new AbortController();
    const timer = setTimeout(() => silence.abort(), silenceMs);
    try {
      const response = await client.open(path, {
        query: options.query ?? {},
        headers: {
          accept: 'text/event-stream',
          ...(lastId === undefined ? {} : { 'last-event-id': lastId }),
        },
        signal: AbortSignal.any([signal, silence.signal]),
      });
      if (isLost) onConnection?.('back');
      isFirst = isLost = false;
      delayMs = firstDelayMs;
      for await (const message of parseServerSentEvents(response.body, () => timer.refresh())) {
        lastId = message.id ?? lastId;
        yield message;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (isFirst || !mayPass(error)) throw error;
    } finally {
      clearTimeout(timer);
    }
    if (!isLost) onConnection?.('lost');
    isLost = true;
    await pause(delayMs, signal);
    delayMs = Math.min(longestDelayMs, delayMs * 2);
  }
}

/** Broken connections may, and what says so of itself; a refusal would only come again. */
function mayPass(error: unknown): boolean {
  return error instanceof ApiError || error instanceof CommandError ? error.mayPass : true;
}

/**
 * The messages of a `text/event-stream` body, by the rules of the HTML standard; comments are skipped, and an
 * unfinished message at the end is dropped. `onBytes` hears of everything that arrives.
 */
export async function* parseServerSentEvents(
  body: ReadableStream<Uint8Array> | null,
  onBytes: () => void = () => {},
): AsyncGenerator<ServerSentEvent> {
  let id: string | null = null;
  let event = '';
  let data: string[] = [];
  for await (const line of readLines(body, onBytes)) {
    if (line === '') {
      if (data.length > 0) yield { id, event: event || 'message', data: data.join('\n') };
      event = '';
      data = [];
      continue;
    }
    const [, field = '', value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
    if (field === 'data') data.push(value);
    else if (field === 'event') event = value;
    else if (field === 'id' && !value.includes('\0')) id = value;
  }
}

async function* readLines(
  body: ReadableStream<Uint8Array> | null,
  onBytes: () => void,
): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of body ?? []) {
    onBytes();
    // A carriage return at the end may be half of a line end; it waits for the next chunk.
    const lines = (rest + decoder.decode(chunk, { stream: true })).split(/\r\n|\n|\r(?=[^])/);
    rest = lines.pop() ?? '';
    yield* lines;
  }
}
