/**
 * Where commands write. Promises that colours and cursor movements only go to a terminal (and obey NO_COLOR),
 * that data goes to stdout and what is said about it to stderr, and that a reader who leaves early (`| head`)
 * ends a command without an error: `closed` then aborts.
 */
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { styleText } from 'node:util';
import { printableJson } from './printable.ts';

type Format = Parameters<typeof styleText>[0];

/** A stream that may be a terminal. */
export type TerminalStream = Writable & { readonly isTTY?: boolean; readonly columns?: number | undefined };

export interface TerminalStreams {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  readonly stdout: TerminalStream;
  readonly stderr: TerminalStream;
}

export interface Terminal extends TerminalStreams {
  /** Whether a person is looking at stdout. */
  readonly isInteractive: boolean;
  /** Aborts when nobody reads stdout any more, or it failed; the reason is the stream's error. */
  readonly closed: AbortSignal;
  /** Cells of a line of stdout; null when it is no terminal, and lines may be of any length. */
  columns(): number | null;
  /** Writes a line of the answer. */
  print(line?: string): void;
  printAll(lines: readonly string[]): void;
  /** Writes the answer for a program. */
  printJson(value: unknown): void;
  /** Writes part of an answer of any length: resolves when there is room for more. */
  write(text: string): Promise<void>;
  /** Writes a line about the answer to stderr. */
  note(line: string): void;
  /** Colours text for stdout, when that shows colours. */
  style(format: Format, text: string): string;
}

/** Makes a terminal of streams, normally the process's. */
export function createTerminal(streams: TerminalStreams): Terminal {
  const { stdout, stderr } = streams;
  const isInteractive = stdout.isTTY === true;
  const closing = new AbortController();
  stdout.on('error', (error) => closing.abort(error));
  // When nobody can be told any more there is nobody to tell about it.
  stderr.on('error', () => undefined);
  const print = (line = '') => void stdout.write(`${line}\n`);
  return {
    ...streams,
    isInteractive,
    closed: closing.signal,
    columns: () => (isInteractive ? Math.max(20, stdout.columns ?? 80) : null),
    print,
    printAll: (lines) => lines.forEach((line) => print(line)),
    printJson: (value) => print(printableJson(value, 2)),
    async write(text) {
      if (closing.signal.aborted || stdout.write(text)) return;
      try {
        await once(stdout, 'drain', { signal: closing.signal });
      } catch (error) {
        if (!closing.signal.aborted) throw error;
      }
    },
    note: (line) => void stderr.write(`${line}\n`),
    style: (format, text) => (isInteractive ? styleText(format, text, { stream: stdout }) : text),
  };
}

/** Whether a stream's error only says that its reader has left. */
export function isReaderGone(error: unknown): boolean {
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  return code === 'EPIPE' || code === 'ERR_STREAM_DESTROYED';
}
