/**
 * A view of the tail as server-sent events: one message per event, its id the position, so that a browser's
 * EventSource resumes by itself where it was cut off. `event: dropped` tells a slow viewer what it missed; a
 * comment every 15 s keeps proxies from closing a quiet stream. Nothing is read ahead of the receiver.
 */
import type { StoredEvent } from '../events/stored-event.ts';
import type { Batch } from './viewer.ts';
import type { Tail, ViewRequest } from './tail.ts';

const heartbeatMs = 15_000;
const reconnectMs = 1000;

/** The message of an event; `line` is its JSON on one line. */
export function eventMessage(event: StoredEvent, line: string): string {
  return `id: ${event.position}\ndata: ${line}\n\n`;
}

/** Opens a view and answers with it. @throws AppError rate_limited when too many look */
export function streamEvents(tail: Tail, request: ViewRequest): Response {
  const left = new AbortController();
  const batches = tail.open({ ...request, signal: AbortSignal.any([request.signal, left.signal]) });
  const encoder = new TextEncoder();
  let next: Promise<IteratorResult<Batch>> | undefined;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(encoder.encode(`retry: ${reconnectMs}\n\n`));
    },
    async pull(controller) {
      next ??= batches.next();
      const result = await firstOf(next, heartbeatMs);
      if (result === null) return controller.enqueue(encoder.encode(': still here\n\n'));
      next = undefined;
      if (result.done) return controller.close();
      controller.enqueue(encoder.encode(textOf(result.value)));
    },
    async cancel() {
      left.abort();
      await batches.return(undefined);
    },
  });
  return new Response(body, {
    headers: {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-store',
      // nginx would hold messages back to fill its buffer.
      'x-accel-buffering': 'no',
    },
  });
}

function textOf({ dropped, frames }: Batch): string {
  const notice = dropped > 0 ? `event: dropped\ndata: {"count":${dropped}}\n\n` : '';
  return notice + frames.join('');
}

/** The promise's value, or null when it takes longer than `ms`. */
async function firstOf<T>(promise: Promise<T>, ms: number): Promise<T | null> {
  const { promise: late, resolve } = Promise.withResolvers<null>();
  const timer = setTimeout(() => resolve(null), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
