/** `repeater tail`: events as they are accepted, one line each, over restarts of the server. */
import { type Command, Option } from 'commander';
import type { StoredEvent } from './answers.ts';
import type { Client, Query } from './client.ts';
import {
  type CommandContext,
  connect,
  examples,
  type ServerOptions,
  wholeNumber,
  withJsonOption,
  withServerOptions,
} from './context.ts';
import { eventLine } from './event-line.ts';
import { printableJson } from './printable.ts';
import { eventTypes } from './selection-options.ts';
import { followServerSentEvents } from './server-sent-events.ts';

interface Options extends ServerOptions {
  readonly type?: readonly string[];
  readonly event?: readonly string[];
  readonly user?: readonly string[];
  readonly source?: readonly string[];
  readonly last: number;
  readonly json?: boolean;
}

/** Adds the command. */
export function addTailCommand(program: Command, context: CommandContext): void {
  const { terminal } = context;
  const tail = program
    .command('tail')
    .description('watch events as they are accepted; Ctrl-C ends it')
    .addOption(new Option('--type <types...>', 'only these kinds of calls').choices(eventTypes))
    .option('--event <names...>', 'only track events of these names')
    .option('--user <ids...>', 'only of these user ids')
    .option('--source <sources...>', 'only from these sources, by id or name')
    .option('--last <count>', 'show this many earlier events first', wholeNumber(0), 0)
    .addHelpText(
      'after',
      examples(
        'repeater tail',
        'repeater tail --type track --event "Order Completed" --last 10',
        'repeater tail --json | jq .event.properties',
      ),
    );
  withServerOptions(withJsonOption(tail)).action(async (options: Options) => {
    const client = await connect(context, options);
    const signal = AbortSignal.any([context.interrupt(), terminal.closed]);
    const show = (event: StoredEvent) =>
      terminal.write(`${options.json ? printableJson(event) : eventLine(terminal, event)}\n`);

    const newest = await newestPosition(client);
    for (const event of await earlierEvents(client, options, newest)) await show(event);
    if (!options.json && terminal.isInteractive) terminal.note(terminal.style('dim', 'Waiting for events …'));
    const messages = followServerSentEvents(client, '/admin/events/stream', {
      query: { type: options.type, event: options.event, userId: options.user, source: options.source },
      // Known before the first event comes, so that nothing is missed if the connection breaks until then.
      lastEventId: String(newest),
      signal,
      onConnection: (state) =>
        terminal.note(
          state === 'lost'
            ? 'The connection was lost; trying again …'
            : 'Connected again; nothing was missed.',
        ),
    });
    for await (const { event, data } of messages) {
      if (event === 'message') await show(JSON.parse(data) as StoredEvent);
      else if (event === 'dropped') terminal.note(droppedText(data));
    }
  });
}

async function newestPosition(client: Client): Promise<number> {
  const [newest] = await client.list<StoredEvent>('/admin/events', {}, 1);
  return newest?.position ?? 0;
}

/** The last events up to a position that the filter lets through, the oldest first. */
async function earlierEvents(client: Client, options: Options, newest: number): Promise<StoredEvent[]> {
  if (options.last === 0) return [];
  const filter: Query = {
    types: options.type,
    events: options.event,
    userIds: options.user,
    sources: options.source,
    before: newest + 1,
  };
  return (await client.list<StoredEvent>('/admin/events', filter, options.last)).toReversed();
}

function droppedText(data: string): string {
  const { count } = JSON.parse(data) as { count?: number };
  return `… ${count ?? 'some'} events left out: they came faster than they could be shown here.`;
}
