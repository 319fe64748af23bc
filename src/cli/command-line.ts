/**
 * The `repeater` command: arguments to commands, failures to messages and exit codes. Promises 0 when it did
 * what was asked, 1 when that was not possible, 2 for a wrong command line or environment; and that an
 * expected failure is told in a sentence, without a stack.
 */
import { Command, CommanderError } from 'commander';
import packageFile from '../../package.json' with { type: 'json' };
import { ConfigError, type Environment } from '../config/env.ts';
import type { CommandContext } from './context.ts';
import { addDestinationCommands } from './destinations.ts';
import { addEventCommands } from './events.ts';
import { addDeadLetterCommands, addParkedUserCommands } from './failed-deliveries.ts';
import { ApiError, CommandError, UsageError } from './failure.ts';
import { printable, wrapWords } from './printable.ts';
import { addReplayCommands } from './replays.ts';
import { addServerCommands } from './server-commands.ts';
import { addSourceCommands } from './sources.ts';
import { addSqlCommand } from './sql.ts';
import { addTailCommand } from './tail.ts';
import { createTerminal, isReaderGone, type Terminal, type TerminalStreams } from './terminal.ts';

export interface CommandLineOptions {
  readonly streams: TerminalStreams;
  /** Stands in for process.env. */
  readonly environment?: Environment;
  readonly now?: () => Date;
  readonly pollMs?: number;
}

const exitCodes = { failed: 1, wrongUsage: 2 } as const;

/** Runs one command line (without node and script) and resolves with the exit code. */
export async function runCommandLine(argv: readonly string[], options: CommandLineOptions): Promise<number> {
  const terminal = createTerminal(options.streams);
  let exitCode = 0;
  const context: CommandContext = {
    terminal,
    environment: options.environment,
    now: options.now ?? (() => new Date()),
    pollMs: options.pollMs ?? 500,
    interrupt: onceInterrupt(),
    exitWith: (code) => void (exitCode = code),
  };
  try {
    await createProgram(context).parseAsync([...argv], { from: 'user' });
  } catch (error) {
    exitCode = report(context, error);
  }
  const { aborted, reason } = terminal.closed;
  if (aborted && !isReaderGone(reason)) {
    terminal.note(`repeater: stdout could not be written: ${(reason as Error).message}`);
    return exitCodes.failed;
  }
  return exitCode;
}

/** All commands; the tests ask it for every help text. */
export function createProgram(context: CommandContext): Command {
  const { terminal } = context;
  const program = new Command('repeater')
    .description('Customer events: store them, deliver them in order, replay any part of history.')
    .version(packageFile.version)
    .exitOverride()
    .showHelpAfterError('(--help tells more)')
    .configureOutput({
      writeOut: (text) => void terminal.stdout.write(text),
      writeErr: (text) => void terminal.stderr.write(text),
      outputError: (text) => say(terminal, text.trimEnd().replace(/^error: /, 'repeater: ')),
      getOutHelpWidth: () => terminal.columns() ?? 80,
      getErrHelpWidth: () => terminal.columns() ?? 80,
    })
    .configureHelp({ showGlobalOptions: false })
    .helpCommand('help [command]', 'print the help of a command')
    .addHelpText(
      'after',
      `
Commands other than serve and migrate talk to a running server. They find the
one that "npm start" runs in this folder; another is named by --url and --token,
or by REPEATER_URL and ADMIN_TOKEN. In the project's folder the program is run
as "npx repeater".`,
    );
  addServerCommands(program, context);
  addSourceCommands(program, context);
  addDestinationCommands(program, context);
  addReplayCommands(program, context);
  addEventCommands(program, context);
  addSqlCommand(program, context);
  addTailCommand(program, context);
  addDeadLetterCommands(program, context);
  addParkedUserCommands(program, context);
  program.commands.forEach(refuseUnknownWords);
  return program;
}

/** Without this, `destinations foo` is told that its default command `list` takes no arguments. */
function refuseUnknownWords(group: Command): void {
  const known = new Set(group.commands.flatMap((command) => [command.name(), ...command.aliases()]));
  if (known.size === 0) return;
  group.hook('preSubcommand', () => {
    const [word = '-'] = group.args;
    if (word.startsWith('-') || word === 'help' || known.has(word)) return;
    const names = [...known].join(', ');
    group.error(`error: unknown command '${word}'. Expected one of ${names}.`, {
      exitCode: exitCodes.wrongUsage,
    });
  });
}

/** Writes lines of a message; on a terminal broken at spaces. */
function say(terminal: Terminal, message: string): void {
  const { isTTY, columns } = terminal.stderr;
  const width = isTTY === true ? (columns ?? 80) : null;
  for (const line of message.split('\n').map(printable)) {
    const hanging = ' '.repeat(line.search(/\S|$/));
    for (const part of wrapWords(line, width, hanging === '' ? '' : `${hanging}  `)) terminal.note(part);
  }
}

function report({ terminal }: CommandContext, error: unknown): number {
  const tell = (message: string) => say(terminal, message);
  // Commander has written its message already.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exitCodes.wrongUsage;
  if (error instanceof UsageError || error instanceof ConfigError) {
    tell(`repeater: ${error.message}`);
    return exitCodes.wrongUsage;
  }
  if (error instanceof CommandError) {
    tell(`repeater: ${error.message}`);
    if (error.hint !== undefined) tell(error.hint);
    return exitCodes.failed;
  }
  if (error instanceof ApiError) {
    tell(`repeater: ${error.message}`);
    // A single problem is the message itself.
    for (const line of error.describe()) if (!error.message.includes(line)) tell(`  ${line}`);
    return exitCodes.failed;
  }
  tell(`repeater: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  return exitCodes.failed;
}

/** Ctrl-C as a signal, taken over from the process only when a command asks for it. */
function onceInterrupt(): () => AbortSignal {
  let interrupted: AbortController | undefined;
  return () => {
    if (interrupted === undefined) {
      const controller = (interrupted = new AbortController());
      process.once('SIGINT', () => controller.abort());
    }
    return interrupted.signal;
  };
}
