/** `repeater events export`: any range of events as lines of JSON, of any length in constant memory. */
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { Readable, Transform, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Command, Option } from 'commander';
import { type CommandContext, connect, examples, type ServerOptions, withServerOptions } from './context.ts';
import { CommandError, UsageError } from './failure.ts';
import { formatBytes, formatCountOf, formatRate } from './figures.ts';
import { createProgressLine } from './progress-line.ts';
import { momentHelp, selectionOf, type SelectionOptions, withSelectionOptions } from './selection-options.ts';
import { isReaderGone } from './terminal.ts';

interface Options extends ServerOptions, SelectionOptions {
  readonly to?: string;
  readonly format: string;
  readonly output?: string;
}

const interruptedCode = 130;
const betweenDrawsMs = 200;

/** Adds the command. */
export function addEventCommands(program: Command, context: CommandContext): void {
  const events = program.command('events').description('export stored events');
  const command = events
    .command('export')
    .description('write events in the order they were accepted, one JSON object a line')
    .addOption(new Option('--format <format>', 'of the output').choices(['ndjson']).default('ndjson'))
    .option('--output <file>', 'write to this file instead of stdout; complete or not there')
    .addOption(new Option('--to <time>', 'the same as --until').hideHelp());
  withSelectionOptions(command)
    .addHelpText('after', momentHelp)
    .addHelpText(
      'after',
      examples(
        'repeater events export --from yesterday --until today --output day.ndjson',
        'repeater events export --event "Order Completed" --user u1 | jq .event',
      ),
    );
  withServerOptions(command).action((options: Options) => exportEvents(context, options));
}

async function exportEvents(context: CommandContext, options: Options): Promise<void> {
  const { terminal } = context;
  const { to, until = to, output, format } = options;
  if (to !== undefined && until !== to) throw new UsageError('--to and --until are the same: give one.');
  const selection = selectionOf({ ...options, ...(until === undefined ? {} : { until }) }, context.now());
  const client = await connect(context, options);
  const signal = AbortSignal.any([context.interrupt(), terminal.closed]);
  const response = await client.open('/admin/events/export', { query: { ...selection, format }, signal });
  const part = `${output}.part`;
  const file = output === undefined ? null : await openFile(part, output);
  const counter = countLines(context, output !== undefined || terminal.stdout.isTTY !== true);
  const body = Readable.fromWeb(response.body ?? new ReadableStream());
  try {
    const sink = file === null ? intoStdout(terminal.stdout) : file.createWriteStream();
    await pipeline(body, counter.stream, sink, { signal });
    if (output !== undefined) await rename(part, output);
    counter.finish();
  } catch (error) {
    counter.finish();
    if (output !== undefined) await rm(part, { force: true });
    if (isReaderGone(error) || isReaderGone(terminal.closed.reason)) return;
    if (signal.aborted) return context.exitWith(interruptedCode);
    throw incomplete(error, { output, lines: counter.lines() });
  }
}

async function openFile(path: string, output: string): Promise<FileHandle> {
  try {
    return await open(path, 'w');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new CommandError(`${output} cannot be written (${code ?? message}).`, { cause });
  }
}

function incomplete(
  error: unknown,
  at: { readonly output: string | undefined; readonly lines: number },
): CommandError {
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  const why =
    syscall === undefined ? 'The connection broke' : `${at.output ?? 'stdout'} could not be written`;
  const text = `${why} after ${formatCountOf(at.lines, 'event')} (${code ?? message}). The export is not complete.`;
  return new CommandError(text, { cause: error });
}

/** stdout as the end of a pipeline, which must not close it: others still write to it. */
function intoStdout(stdout: Writable): Writable {
  return new Writable({
    write(chunk: Buffer, _encoding, done) {
      stdout.write(chunk, done);
    },
  });
}

interface LineCounter {
  readonly stream: Transform;
  lines(): number;
  finish(): void;
}

/** Counts what passes, and shows it on stderr when somebody is looking there and not at the events themselves. */
function countLines({ terminal, now }: CommandContext, isQuiet: boolean): LineCounter {
  const { stderr } = terminal;
  const startedAt = now().getTime();
  const line = stderr.isTTY === true && isQuiet ? createProgressLine(stderr, () => now().getTime()) : null;
  let lines = 0;
  let bytes = 0;
  let drawnAt = 0;
  const state = () => {
    const seconds = Math.max(0.001, (now().getTime() - startedAt) / 1000);
    return `${formatCountOf(lines, 'event')}  ${formatBytes(bytes)}  ${formatRate(lines / seconds)}`;
  };
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length;
      for (let at = chunk.indexOf(10); at !== -1; at = chunk.indexOf(10, at + 1)) lines++;
      const at = now().getTime();
      if (at - drawnAt >= betweenDrawsMs) {
        drawnAt = at;
        line?.update(state);
      }
      done(null, chunk);
    },
  });
  return { stream, lines: () => lines, finish: () => line?.finish(state) };
}
