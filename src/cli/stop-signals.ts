/**
 * When a server stops: at SIGINT or SIGTERM, or at an error nobody caught. A second signal ends the process at
 * once, but one within a second counts as the first: npm passes a Ctrl-C on that the terminal has sent already.
 * SIGHUP asks for a reload, unless a person's terminal has gone: then it stops the server like the others.
 */
import { isLostSession } from '../db/client.ts';
import type { Log } from '../lib/log.ts';

export interface StopRequest {
  /** Resolves with the exit code. */
  readonly requested: Promise<number>;
  readonly signal: AbortSignal;
  /** Gives the signals back to the process. */
  dispose(): void;
}

interface StopOptions {
  readonly log: Log;
  /** At SIGHUP; null: stop. */
  readonly hangUp: (() => void) | null;
}

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const sameSignalMs = 1000;

/** Listens until disposed. */
export function listenForStop({ log, hangUp }: StopOptions): StopRequest {
  const { promise: requested, resolve } = Promise.withResolvers<number>();
  const controller = new AbortController();
  let firstAt: number | undefined;

  function onSignal(signal: NodeJS.Signals): void {
    if (signal === 'SIGHUP' && hangUp) hangUp();
    else if (firstAt === undefined) {
      firstAt = performance.now();
      log.info({ signal }, 'stopping');
      controller.abort();
      resolve(0);
    } else if (performance.now() - firstAt > sameSignalMs) {
      dispose();
      process.kill(process.pid, signal);
    }
  }

  function onError(error: unknown): void {
    if (isLostSession(error)) {
      log.warn({ err: error }, 'a session with the database was cut; going on');
      return;
    }
    log.fatal({ err: error }, 'an error that nobody caught; stopping');
    controller.abort();
    resolve(1);
  }

  function dispose(): void {
    for (const signal of signals) process.off(signal, onSignal);
    process.off('uncaughtException', onError);
    process.off('unhandledRejection', onError);
  }

  for (const signal of signals) process.on(signal, onSignal);
  process.on('uncaughtException', onError);
  process.on('unhandledRejection', onError);
  return { requested, signal: controller.signal, dispose };
}
