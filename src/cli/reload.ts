/**
 * Replacing the server process while it serves. The first process spawns the next one, gives it the listening
 * socket, and retires when the next one accepts; connections wait in the socket's queue, so none is refused.
 *
 * The first process stays as the parent of all later ones, because it is what systemd, Docker or npm watches: when
 * it ends they take the service for dead. It passes on signals and the exit code, and owns the embedded Postgres. A
 * small parent from the start would cost every installation a process of 45 MB, and a `kill -9` of it would leave the
 * server running; this way nothing changes for who never reloads.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { ListeningSocket } from '../http/server.ts';
import { AppError, toError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import type { FromSuccessor, ToSuccessor } from './successor.ts';

/** A new start may migrate a large database. */
const longestStartMs = 100_000;

/** Whoever serves now. */
interface Serving {
  /** Finishes and resolves when it is done. */
  retire(): Promise<void>;
  /** Shortens that. */
  hasten(): void;
}

interface ReloadsOptions {
  readonly log: Log;
  /** The server in this process. */
  readonly first: Serving & { readonly socket: ListeningSocket };
  /** Of the embedded Postgres; null with DATABASE_URL. */
  readonly embeddedUrl: string | null;
  /** Program and arguments of a successor. */
  readonly command: readonly [program: string, ...args: string[]];
}

interface Successor extends Serving {
  readonly child: ChildProcess;
  readonly socket: ListeningSocket;
  readonly ended: Promise<number>;
}

export class Reloads {
  /** Resolves with the exit code when a later process ended that should serve. */
  readonly ended: Promise<number>;
  readonly #end: (exitCode: number) => void;
  readonly #options: ReloadsOptions;
  readonly #children = new Set<ChildProcess>();
  #socket: ListeningSocket;
  #serving: Serving;
  #finishing: Serving | null = null;
  #starting = false;
  #stopping = false;

  constructor(options: ReloadsOptions) {
    this.#options = options;
    this.#serving = options.first;
    this.#socket = options.first.socket;
    const { promise, resolve } = Promise.withResolvers<number>();
    this.ended = promise;
    this.#end = resolve;
  }

  /**
   * Resolves when a new process accepts and the one before has begun to retire.
   * @throws AppError `conflict` while another reload is under way, `reload_failed` with what the new process said.
   */
  async reload(): Promise<void> {
    const { log } = this.#options;
    if (process.platform === 'win32') throw new AppError('reload_failed', { message: 'Not on Windows.' });
    if (this.#starting || this.#stopping) {
      throw new AppError('conflict', {
        message: this.#stopping ? 'The server is stopping.' : 'A reload is under way already.',
      });
    }
    this.#starting = true;
    log.info('reload: starting a new process');
    try {
      this.#adopt(await this.#start());
    } catch (thrown) {
      const { message } = toError(thrown);
      log.error({ reason: message }, 'reload: the new process did not start; the one before goes on');
      throw new AppError('reload_failed', { message, cause: thrown });
    } finally {
      this.#starting = false;
    }
  }

  /** Ends every later process and resolves when they are gone. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const gone = [...this.#children].map((child) => once(child, 'exit'));
    for (const child of this.#children) child.kill('SIGTERM');
    await Promise.all(gone);
  }

  #adopt(next: Successor): void {
    const { log, first } = this.#options;
    if (this.#stopping) throw new Error('The server is stopping.');
    const previous = this.#serving;
    // At most one process finishes beside the one that serves.
    this.#finishing?.hasten();
    this.#finishing = previous;
    this.#serving = next;
    if (previous !== first) closeSocket(this.#socket);
    this.#socket = next.socket;
    log.info({ pid: next.child.pid }, 'reload: a new process serves; the one before finishes');
    void next.ended.then((exitCode) => {
      if (this.#serving !== next || this.#stopping) return;
      log.error({ pid: next.child.pid, exitCode }, 'the process that serves has ended');
      this.#end(exitCode);
    });
    previous.retire().then(
      () => {
        log.info('reload: the process before has finished');
        if (this.#finishing === previous) this.#finishing = null;
        if (previous === first) giveMemoryBack();
      },
      (error: unknown) => log.error({ err: toError(error) }, 'reload: the process before ended badly'),
    );
  }

  /** Resolves when it listens. @throws Error with what it said */
  async #start(): Promise<Successor> {
    const { command, embeddedUrl, log } = this.#options;
    const [program, ...args] = command;
    const child = spawn(program, args, { stdio: ['inherit', 'inherit', 'inherit', 'ipc'] });
    this.#children.add(child);
    const { promise: ended, resolve: end } = Promise.withResolvers<number>();
    child.once('error', (error) => {
      log.error({ err: error }, 'reload: the new process could not be run');
      end(1);
    });
    child.once('exit', (code, signal) => end(code ?? 128 + (signal ? constants.signals[signal] : 0)));
    void ended.then(() => this.#children.delete(child));
    const ready = Promise.withResolvers<ListeningSocket>();
    let reason: string | undefined;
    void ended.then((exitCode) => ready.reject(new Error(reason ?? `It ended with exit code ${exitCode}.`)));
    child.on('message', (message, socket) => {
      const said = message as FromSuccessor;
      if (said.type === 'ready') ready.resolve(socket as ListeningSocket);
      else if (said.type === 'failed') ({ reason } = said);
      else void this.#answerReload(child);
    });
    tell(child, { type: 'take-over', embeddedUrl }, this.#socket);
    const late = setTimeout(() => {
      reason = `It was not ready within ${longestStartMs / 1_000} s.`;
      child.kill('SIGKILL');
    }, longestStartMs);
    try {
      const socket = await ready.promise;
      return {
        child,
        socket,
        ended,
        retire() {
          tell(child, { type: 'retire' });
          return ended.then(() => undefined);
        },
        hasten: () => void child.kill('SIGTERM'),
      };
    } finally {
      clearTimeout(late);
    }
  }

  async #answerReload(child: ChildProcess): Promise<void> {
    try {
      await this.reload();
      tell(child, { type: 'reload-ended', problem: null });
    } catch (error) {
      const { code, message } = error as AppError;
      tell(child, { type: 'reload-ended', problem: { code, message } });
    }
  }
}

function tell(child: ChildProcess, message: ToSuccessor, socket?: ListeningSocket): void {
  // It may have ended in this moment; its exit tells the rest.
  child.send(message, socket, {}, () => undefined);
}

function closeSocket(socket: ListeningSocket): void {
  (socket as unknown as { close(): void }).close();
}

/** From here on this process only waits. Left alone, V8 would keep the heap of a server for good. */
function giveMemoryBack(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as (options?: object) => void;
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
