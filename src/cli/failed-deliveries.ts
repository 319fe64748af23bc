/** `repeater dead-letters` and `repeater parked-users`: what was given up, and who waits. */
import type { Command } from 'commander';
import type { DeadLetter, ParkedUser } from './answers.ts';
import {
  type CommandContext,
  connect,
  eventsPerSecond,
  examples,
  limitOption,
  type ServerOptions,
  withJsonOption,
  withServerOptions,
} from './context.ts';
import { formatWhen } from './figures.ts';
import { runReplay, type RunOptions } from './replay-run.ts';
import { momentHelp, selectionOf, type SelectionOptions, withSelectionOptions } from './selection-options.ts';
import { renderTable } from './table.ts';

interface ListOptions extends ServerOptions {
  readonly destination?: string;
  readonly replay?: string;
  readonly limit: number;
  readonly json?: boolean;
}

interface ReplayOptions extends ServerOptions, SelectionOptions, RunOptions {
  readonly destination: string;
  readonly rate?: number;
}

/** Adds `dead-letters`. */
export function addDeadLetterCommands(program: Command, context: CommandContext): void {
  const { terminal } = context;
  const deadLetters = program
    .command('dead-letters')
    .description('list events that were given up, and send them again')
    .addHelpText(
      'after',
      examples(
        'repeater dead-letters list --destination dst_1',
        'repeater dead-letters replay --destination dst_1',
      ),
    );

  const list = deadLetters
    .command('list', { isDefault: true })
    .description('list events that were given up, with the error');
  withListOptions(list).action(async (options: ListOptions) => {
    const found = await listOf<DeadLetter>(context, '/admin/dead-letters', options);
    if (options.json) return terminal.printJson(found);
    if (found.length === 0) return terminal.print('There is no dead letter.');
    terminal.printAll(
      renderTable({
        columns: [
          { title: 'position', align: 'right', whole: true },
          { title: 'feed', whole: true },
          { title: 'user' },
          { title: 'event' },
          { title: 'tries', align: 'right', whole: true },
          { title: 'given up', whole: true },
          { title: 'error' },
        ],
        rows: found.map((letter) => [
          letter.position,
          letter.replayId ?? letter.destinationId,
          letter.userId ?? letter.anonymousId ?? letter.userKey,
          letter.event ?? letter.type,
          letter.attempts,
          formatWhen(letter.createdAt, context.now()),
          shortReason(letter.error),
        ]),
        width: terminal.columns(),
        styleTitle: (title) => terminal.style('bold', title),
      }),
    );
    if (found.length === options.limit) terminal.note(`The newest ${found.length}; more with --limit.`);
  });

  const replay = deadLetters
    .command('replay')
    .description('send again what a destination gave up, in order per user')
    .requiredOption('--destination <id>', 'e.g. dst_1');
  withSelectionOptions(replay)
    .option('--rate <events>', 'at most this many events a second', eventsPerSecond)
    .option('--preview', 'print what would be sent and send nothing')
    .option('--detach', 'start it and do not wait for its end')
    .addHelpText('after', momentHelp);
  withServerOptions(withJsonOption(replay)).action(async (options: ReplayOptions) => {
    const selection = { ...selectionOf(options, context.now()), deadLettersOnly: true };
    const client = await connect(context, options);
    const { destination: destinationId, rate: ratePerSecond = null } = options;
    const request = { destinationId, selection, order: 'alongside' as const, ratePerSecond };
    await runReplay(context, client, { request, options });
  });
}

/** Adds `parked-users`. */
export function addParkedUserCommands(program: Command, context: CommandContext): void {
  const { terminal } = context;
  const parkedUsers = program
    .command('parked-users')
    .description('list users whose next event is being retried; nobody else waits for them')
    .addHelpText('after', examples('repeater parked-users --destination dst_1'));
  const list = parkedUsers
    .command('list', { isDefault: true })
    .description('list parked users with their last error');
  withListOptions(list).action(async (options: ListOptions) => {
    const found = await listOf<ParkedUser>(context, '/admin/parked-users', options);
    if (options.json) return terminal.printJson(found);
    if (found.length === 0) return terminal.print('No user is parked.');
    terminal.printAll(
      renderTable({
        columns: [
          { title: 'user' },
          { title: 'feed', whole: true },
          { title: 'position', align: 'right', whole: true },
          { title: 'tries', align: 'right', whole: true },
          { title: 'next try', whole: true },
          { title: 'last error' },
        ],
        rows: found.map((user) => [
          user.userId ?? user.anonymousId ?? user.userKey,
          user.replayId ?? user.destinationId,
          user.position,
          user.attempts,
          user.state === 'blocked' ? 'blocked' : formatWhen(user.nextAttemptAt, context.now()),
          user.lastError === null ? null : shortReason(user.lastError),
        ]),
        width: terminal.columns(),
        styleTitle: (title) => terminal.style('bold', title),
      }),
    );
    if (found.length === options.limit) terminal.note(`The first ${found.length}; more with --limit.`);
  });
}

/** What differs between one refusal and the next, for a narrow column. */
function shortReason(error: string): string {
  return error.replace(/^The endpoint answered (\d{3}.*?)\.?$/, '$1');
}

function withListOptions(command: Command): Command {
  command
    .option('--destination <id>', 'only of this destination')
    .option('--replay <id>', 'only of this replay')
    .addOption(limitOption(50));
  return withServerOptions(withJsonOption(command));
}

async function listOf<Item>(context: CommandContext, path: string, options: ListOptions): Promise<Item[]> {
  const client = await connect(context, options);
  return client.list<Item>(
    path,
    { destinationId: options.destination, replayId: options.replay },
    options.limit,
  );
}
