/** What every command is given, and the options that commands share. Commands keep nothing of their own. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type Environment, loadClientConfig } from '../config/env.ts';
import { type Client, createClient, findServer } from './client.ts';
import type { Terminal } from './terminal.ts';

export interface CommandContext {
  readonly terminal: Terminal;
  /** Stands in for process.env. */
  readonly environment: Environment | undefined;
  readonly now: () => Date;
  /** From its first call on, Ctrl-C aborts this signal instead of ending the process; a second Ctrl-C ends it. */
  readonly interrupt: () => AbortSignal;
  /** Milliseconds between two looks at something that progresses. */
  readonly pollMs: number;
  /** Ends the command with this exit code although nothing failed. */
  readonly exitWith: (code: number) => void;
}

export interface ServerOptions {
  readonly url?: string;
  readonly token?: string;
}

/** Adds `--url` and `--token`, which every command has that talks to the server. */
export function withServerOptions(command: Command): Command {
  return command
    .option('--url <url>', 'address of the server (default: REPEATER_URL, else the one started here)')
    .option('--token <token>', 'admin token (default: ADMIN_TOKEN, else the one kept in DATA_DIR)');
}

/** Adds `--json`. */
export function withJsonOption(command: Command): Command {
  return command.option('--json', 'print JSON for programs instead of a table');
}

/** Connects to the server that the options, the environment or DATA_DIR name. */
export async function connect(context: CommandContext, options: ServerOptions): Promise<Client> {
  const { environment } = context;
  const config = loadClientConfig(environment === undefined ? {} : { environment });
  return createClient(await findServer(config, options));
}

/** Reads a whole number of an option or argument. */
export function wholeNumber(least: number): (text: string) => number {
  return (text) => {
    const number = /^\d{1,15}$/.test(text) ? Number(text) : NaN;
    if (number >= least) return number;
    throw new InvalidArgumentError(`Expected a whole number of at least ${least}.`);
  };
}

/** Reads a rate in events per second. */
export function eventsPerSecond(text: string): number {
  const rate = Number(text);
  if (text.trim() !== '' && rate > 0 && rate <= 1_000_000) return rate;
  throw new InvalidArgumentError('Expected events per second, e.g. 50 or 0.5.');
}

/** An option for the length of a list. */
export function limitOption(fallback: number): Option {
  return new Option('--limit <count>', 'show at most this many').default(fallback).argParser(wholeNumber(1));
}

/** Help text with examples, printed below the options; a line that starts with `#` is a remark. */
export function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => (line.startsWith('#') ? `  ${line}` : `  $ ${line}`)).join('\n')}`;
}
