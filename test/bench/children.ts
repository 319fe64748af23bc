/**
 * Processes of the benchmark: loads, receivers and yardsticks run apart from what is measured. A child announces
 * itself, answers one question at a time over IPC, and is asked for its highest memory at the end.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';

export interface Child {
  readonly process: ChildProcess;
  /** Sends a request and resolves with its answer. @throws what the child reports or when it ends */
  ask<Answer>(request: object): Promise<Answer>;
  /** Highest resident memory so far, in bytes. */
  peakBytes(): Promise<number>;
  stop(): Promise<void>;
}

const children = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** Starts `file` (beside this one) with an argument it reads as JSON. */
export function startChild(file: string, argument: object): Promise<Child> {
  const path = fileURLToPath(new URL(file, import.meta.url));
  return launch(fork(path, [JSON.stringify(argument)], { execArgv: [], stdio: ['ignore', 2, 2, 'ipc'] }));
}

async function launch(child: ChildProcess): Promise<Child> {
  children.add(child);
  const gone = new Promise<never>((_, reject) => {
    child.once('exit', (code, signal) => {
      children.delete(child);
      reject(new Error(`${child.spawnargs[1]} ended (${code ?? signal}).`));
    });
  });
  gone.catch(() => {});
  const nextMessage = () =>
    new Promise<{ answer?: unknown; error?: string }>((resolve) =>
      child.once('message', (message) => resolve(message as { answer?: unknown; error?: string })),
    );
  await Promise.race([nextMessage(), gone]);
  let queue: Promise<unknown> = Promise.resolve();
  return {
    process: child,
    ask<Answer>(request: object) {
      const asked = queue.then(async () => {
        const answer = nextMessage();
        child.send(request);
        const { answer: value, error } = await Promise.race([answer, gone]);
        if (error !== undefined) throw new Error(error);
        return value as Answer;
      });
      queue = asked.catch(() => {});
      return asked;
    },
    peakBytes: () => peakBytes(child),
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGTERM');
      await gone.catch(() => {});
    },
  };
}

/** Linux keeps the high-water mark itself. */
export async function peakBytes(child: ChildProcess): Promise<number> {
  const status = await readFile(`/proc/${child.pid}/status`, 'utf8');
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
}

/** In a child: answers requests with `handle` until the parent is gone. */
export function serveParent(handle: (request: Record<string, unknown>) => Promise<unknown>): void {
  process.on('disconnect', () => process.exit(0));
  process.on('message', (request) => {
    handle(request as Record<string, unknown>).then(
      (answer) => process.send?.({ answer }),
      (error: unknown) =>
        process.send?.({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
    );
  });
  process.send?.({ answer: 'ready' });
}

/** In a child: what it was started with. */
export function childArgument(): unknown {
  return JSON.parse(process.argv[2] ?? '{}');
}

export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}
