/**
 * The one HTTP client destinations have. Connections are kept alive and pinned to checked addresses,
 * redirects are answers and never followed, one time limit covers the exchange with its body, at most 64 KB
 * of an answer are kept, and an answer is never decompressed. It is the hot path of delivery: what happens
 * here happens for every event.
 */
import { Agent, buildConnector, type Dispatcher } from 'undici';
import manifest from '../../package.json' with { type: 'json' };
import type { DestinationRequest, DestinationResponse } from '../destinations/definition.ts';
import { isBlockedHost } from './addresses.ts';
import { checkedLookup, parseAllowedUrl, type AddressRules } from './request-address.ts';
import { blockedText, RequestError, requestErrorOf } from './request-error.ts';

/** Bytes of an answer that are kept; the rest is dropped with the connection. */
const maxAnswerBytes = 64 * 1024;
/** Where neither the request nor its destination says. */
const defaultTimeoutMs = 15_000;
/** URLs and header names whose check is remembered. */
const maxRemembered = 1_000;

/** Set by the client itself, or of the connection: from a setting they could smuggle a second request. */
export const reservedHeaders: ReadonlySet<string> = new Set([
  'accept-encoding',
  'connection',
  'content-length',
  'expect',
  'host',
  'keep-alive',
  'proxy-authorization',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'user-agent',
]);

export interface RequesterOptions extends AddressRules {
  /** Connections per origin; unlimited if absent, the destination's concurrency bounds them. */
  readonly connectionsPerOrigin?: number;
}

export interface Requester {
  /**
   * Sends a request; 3xx, 4xx and 5xx are answers too.
   * @throws RequestError
   */
  readonly request: (request: DestinationRequest, signal?: AbortSignal) => Promise<DestinationResponse>;
  /** Ends what is in flight as aborted and closes all connections. */
  readonly close: () => Promise<void>;
}

interface Target {
  readonly origin: string;
  readonly path: string;
}

/** Opens the client of one process. */
export function createRequester(options: RequesterOptions): Requester {
  const agent = new Agent({
    connect: checkedConnector(options),
    connections: options.connectionsPerOrigin ?? null,
    // One request at a time on a connection: behind a slow one another user's would wait.
    pipelining: 1,
    // HTTP/2 would put all users on one connection: one reset would fail all of them.
    allowH2: false,
    // The exchange's own limit replaces both.
    headersTimeout: 0,
    bodyTimeout: 0,
  });
  const targets = new Map<string, Target>();
  const headerNames = new Map<string, boolean>();
  const bySignal = new WeakMap<AbortSignal, Exchange[]>();
  const closing = new AbortController();

  const targetOf = (text: string): Target => {
    let target = targets.get(text);
    if (target === undefined) {
      const url = parseAllowedUrl(text, options);
      target = { origin: url.origin, path: url.pathname + url.search };
      remember(targets, text, target);
    }
    return target;
  };
  const headersOf = (given: Readonly<Record<string, string>> | undefined): string[] => {
    const headers = ['user-agent', `Repeater/${manifest.version}`, 'accept-encoding', 'identity'];
    for (const name in given) {
      let allowed = headerNames.get(name);
      if (allowed === undefined) {
        allowed = !reservedHeaders.has(name.toLowerCase());
        remember(headerNames, name, allowed);
      }
      if (!allowed) throw new RequestError('invalid_request', `The header ${name} cannot be set.`);
      headers.push(name, given[name] as string);
    }
    return headers;
  };

  const start = (request: DestinationRequest, signal: AbortSignal): Exchange => {
    if (signal.aborted || closing.signal.aborted) throw abortedError();
    const { origin, path } = targetOf(request.url);
    const { method, body = null } = request;
    const headers = headersOf(request.headers);
    const exchange = new Exchange(request.timeoutMs ?? defaultTimeoutMs, exchangesOf(signal, bySignal));
    agent.dispatch({ origin, path, method, headers, body }, exchange);
    return exchange;
  };

  return {
    // Not async: another promise around the exchange's own costs
    request(request, signal = closing.signal) {
      try {
        return start(request, signal).answered;
      } catch (error) {
        return Promise.reject(error);
      }
    },
    async close() {
      closing.abort();
      await agent.destroy(abortedError());
    },
  };
}

function abortedError(): RequestError {
  return new RequestError('aborted', 'Delivery was stopped.');
}

function remember<Key, Value>(map: Map<Key, Value>, key: Key, value: Value): void {
  if (map.size >= maxRemembered) map.clear();
  map.set(key, value);
}

/** Sockets skip the lookup for literals, so these are checked here as well. */
function checkedConnector(rules: AddressRules): buildConnector.connector {
  const connect = buildConnector({ allowH2: false, lookup: checkedLookup(rules) });
  return (target, callback) => {
    if (!rules.allowPrivateAddresses && isBlockedHost(target.hostname)) {
      return callback(new RequestError('blocked_address', blockedText), null);
    }
    return connect(target, callback);
  };
}

/**
 * The exchanges a signal aborts. One listener for each signal instead of one for each request: a worker's
 * signal lives as long as the worker, and removing from its list of listeners is a search.
 */
function exchangesOf(signal: AbortSignal, bySignal: WeakMap<AbortSignal, Exchange[]>): Exchange[] {
  let exchanges = bySignal.get(signal);
  if (exchanges === undefined) {
    const started: Exchange[] = [];
    exchanges = started;
    bySignal.set(signal, started);
    const stopAll = () => {
      // Each stop takes the exchange off the list.
      for (let last = started.at(-1); last; last = started.at(-1)) last.stop(abortedError());
    };
    signal.addEventListener('abort', stopAll, { once: true });
  }
  return exchanges;
}

/** One request and its answer: undici's handler, the time limit and the promise in one object. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly answered: Promise<DestinationResponse>;
  readonly #timer: NodeJS.Timeout;
  /** All that its signal aborts; a list with places, because a set was 5 % of the whole exchange. */
  readonly #running: Exchange[];
  #place: number;
  #resolve!: (answer: DestinationResponse) => void;
  #reject!: (error: RequestError) => void;
  #controller: Dispatcher.DispatchController | null = null;
  #stopped: RequestError | null = null;
  #status = 0;
  #headers: Record<string, string | undefined> = {};
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(timeoutMs: number, running: Exchange[]) {
    this.answered = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#timer = setTimeout(expire, timeoutMs, this, timeoutMs);
    this.#running = running;
    this.#place = running.push(this) - 1;
  }

  /** Gives the exchange up, whether it waits for a connection or for the answer; the connection is closed. */
  stop(error: RequestError): void {
    if (this.#place < 0) return;
    this.#stopped = error;
    this.#end();
    this.#reject(error);
    this.#controller?.abort(error);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#stopped) controller.abort(this.#stopped);
  }

  onResponseStart(
    _controller: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    for (const name in headers) {
      const value = headers[name];
      if (typeof value === 'object') headers[name] = value.join(', ');
    }
    this.#status = status;
    this.#headers = headers as Record<string, string | undefined>;
    // After a 1xx the real answer follows and replaces this.
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bytes += chunk.length;
    if (this.#bytes <= maxAnswerBytes) return;
    this.#answer();
    controller.abort(new RequestError('connection', 'The answer is longer than what is kept.'));
  }

  onResponseEnd(): void {
    this.#answer();
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    this.#end();
    this.#reject(requestErrorOf(error));
  }

  #answer(): void {
    this.#end();
    this.#resolve({ status: this.#status, headers: this.#headers, body: textOf(this.#chunks) });
  }

  #end(): void {
    if (this.#place < 0) return;
    clearTimeout(this.#timer);
    const last = this.#running.pop() as Exchange;
    if (last !== this) {
      this.#running[this.#place] = last;
      last.#place = this.#place;
    }
    this.#place = -1;
  }
}

/** After a look at the sockets: the answer of an endpoint may have come while this process had no time to read it. */
function expire(exchange: Exchange, timeoutMs: number): void {
  setImmediate(() =>
    exchange.stop(new RequestError('timeout', `The endpoint did not answer within ${timeoutMs / 1_000} s.`)),
  );
}

function textOf(chunks: readonly Buffer[]): string {
  if (chunks.length === 0) return '';
  const bytes = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
  // Answers end up in Postgres, whose text holds everything but NUL.
  const text = bytes.toString('utf8', 0, maxAnswerBytes).replaceAll('\0', '\uFFFD');
  // Bytes that are no text have become three each.
  if (text.length * 3 <= maxAnswerBytes || Buffer.byteLength(text) <= maxAnswerBytes) return text;
  return Buffer.from(text).toString('utf8', 0, maxAnswerBytes - 2);
}
