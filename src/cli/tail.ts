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
import { formatClock } from './figures.ts';
import { cutToWidth, padTo, printable, printableJson } from './printable.ts';
import { eventTypes } from './selection-options.ts';
import { followServerSentEvents } from './server-sent-events.ts';
import type { Terminal } from './terminal.ts';

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
      terminal.write(`${options.json ? printableJson(event) : lineOf(terminal, event)}\n`);

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

const colours = {
  track: 'green',
  identify: 'cyan',
  page: 'blue',
  screen: 'blue',
  group: 'magenta',
  alias: 'yellow',
} as const;

/** `09:15:02  track     Order Completed  u1  {"total":42}`, cut to the terminal. */
function lineOf(terminal: Terminal, stored: StoredEvent): string {
  const { event, type } = stored;
  const clock = formatClock(new Date(stored.receivedAt));
  const name = printable(stored.name ?? textOf(event['name']) ?? '');
  const user = printable(stored.userId ?? stored.anonymousId ?? '');
  const content = event['properties'] ?? event['traits'] ?? {};
  const head = `${clock}  ${padTo(printable(type), 8)}  `;
  const facts = [name, user].filter((text) => text !== '').join('  ');
  const rest = Object.keys(content).length === 0 ? '' : `  ${printableJson(content)}`;
  const width = terminal.columns();
  const cut = (text: string) => (width === null ? text : cutToWidth(text, width - head.length));
  const shown = cut(facts + rest);
  const colour = colours[type as keyof typeof colours] ?? 'white';
  return (
    terminal.style('dim', clock) +
    terminal.style(colour, head.slice(clock.length)) +
    shown.slice(0, facts.length) +
    terminal.style('dim', shown.slice(facts.length))
  );
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

function droppedText(data: string): string {
  const { count } = JSON.parse(data) as { count?: number };
  return `… ${count ?? 'some'} events left out: they came faster than they could be shown here.`;
}
