/**
 * The side of a process that takes over from another (`serve --take-over`): what it is given by the first process
 * and what the two say to each other. The protocol is spoken between two versions of the program: only add to it.
 */
import { once } from 'node:events';
import type { ListeningSocket } from '../http/server.ts';
import { AppError, type ErrorCode } from '../lib/errors.ts';
import { UsageError } from './failure.ts';

export type ToSuccessor =
  /** Comes with the socket. */
  | { readonly type: 'take-over'; readonly embeddedUrl: string | null }
  | { readonly type: 'retire' }
  | {
      readonly type: 'reload-ended';
      readonly problem: { readonly code: ErrorCode; readonly message: string } | null;
    };

export type FromSuccessor =
  /** It accepts; comes with the socket, which the first process keeps open for the next one. */
  | { readonly type: 'ready' }
  | { readonly type: 'failed'; readonly reason: string }
  | { readonly type: 'reload' };

/** The first process, as a successor knows it. */
export interface FirstProcess {
  readonly socket: ListeningSocket;
  /** Of the embedded Postgres, which the first process goes on owning; null with DATABASE_URL. */
  readonly embeddedUrl: string | null;
  /** Resolves when yet another process has taken over. */
  readonly retired: Promise<'retire'>;
  /** Resolves when the first process is gone: nobody would stop this one any more. */
  readonly gone: Promise<number>;
  ready(socket: ListeningSocket): void;
  failed(reason: string): Promise<void>;
  /** Asks for a reload. @throws AppError as the first process answers */
  reload(): Promise<void>;
}

/** Waits for what the first process gives. @throws UsageError when nobody started this process to take over */
export async function joinFirstProcess(): Promise<FirstProcess> {
  if (!process.connected) throw new UsageError('--take-over is for a process that a running server starts.');
  const say = (message: FromSuccessor, socket?: ListeningSocket) =>
    new Promise<void>((resolve) => process.send?.(message, socket, {}, () => resolve()));
  const retired = Promise.withResolvers<'retire'>();
  const gone = Promise.withResolvers<number>();
  let reloading: PromiseWithResolvers<void> | undefined;
  process.once('disconnect', () => {
    gone.resolve(1);
    reloading?.reject(new AppError('reload_failed'));
  });
  const [given, socket] = (await once(process, 'message')) as [
    Extract<ToSuccessor, { type: 'take-over' }>,
    ListeningSocket,
  ];
  process.on('message', (message: ToSuccessor) => {
    if (message.type === 'retire') retired.resolve('retire');
    if (message.type !== 'reload-ended') return;
    const { problem } = message;
    if (problem) reloading?.reject(new AppError(problem.code, { message: problem.message }));
    else reloading?.resolve();
    reloading = undefined;
  });
  return {
    socket,
    embeddedUrl: given.embeddedUrl,
    retired: retired.promise,
    gone: gone.promise,
    ready: (listening) => void say({ type: 'ready' }, listening),
    failed: (reason) => say({ type: 'failed', reason }),
    async reload() {
      if (reloading) throw new AppError('conflict', { message: 'A reload is under way already.' });
      reloading = Promise.withResolvers<void>();
      const { promise } = reloading;
      void say({ type: 'reload' });
      await promise;
    },
  };
}
