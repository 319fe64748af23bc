/** Destinations as people read them. */
import type { Destination, DestinationStatus, DestinationType } from './answers.ts';
import { formatCount, formatSeconds, formatTime } from './figures.ts';
import { printable, wrapWords } from './printable.ts';
import { renderFacts, renderTable } from './table.ts';
import type { Terminal } from './terminal.ts';

type State = Destination['state'];

/** Prints a list. */
export function printDestinations(terminal: Terminal, destinations: readonly Destination[]): void {
  if (destinations.length === 0) {
    terminal.print('There is no destination yet. Create one:');
    terminal.print('  repeater destinations create --type webhook --name NAME --set url=https://…');
    return;
  }
  terminal.printAll(
    renderTable({
      columns: [
        { title: 'id', whole: true },
        { title: 'name' },
        { title: 'type', whole: true },
        { title: 'state', whole: true, style: (cell, value) => styleState(terminal, cell, value as State) },
        { title: 'paused because' },
        { title: 'created' },
      ],
      rows: destinations.map((destination) => [
        destination.id,
        destination.name,
        destination.type,
        destination.state,
        destination.pausedReason,
        formatTime(destination.createdAt),
      ]),
      width: terminal.columns(),
      styleTitle: (title) => terminal.style('bold', title),
    }),
  );
}

/** Prints one with its settings. */
export function printDestination(terminal: Terminal, destination: Destination): void {
  const { settings, policy } = destination;
  terminal.printAll(
    renderFacts(
      [
        ['id', destination.id],
        ['name', destination.name],
        ['type', destination.type],
        ['state', destination.state],
        ...(destination.pausedReason === null ? [] : [['paused because', destination.pausedReason] as const]),
        ...Object.entries(settings).map(([name, value]) => [name, textOf(value)] as const),
        ...Object.entries(policy).map(([name, value]) => [`policy ${name}`, textOf(value)] as const),
        ['created', formatTime(destination.createdAt)],
        ['updated', formatTime(destination.updatedAt)],
      ],
      (name) => terminal.style('bold', name),
    ),
  );
}

/** Prints how far each feed is. */
export function printStatus(terminal: Terminal, status: DestinationStatus): void {
  const { destinationId, state, pausedReason, feeds } = status;
  terminal.print(
    `${destinationId} is ${styleState(terminal, state, state)}${pausedReason ? `: ${printable(pausedReason)}` : '.'}`,
  );
  if (feeds.length === 0) return;
  terminal.print();
  const right = (title: string) => ({ title, align: 'right' as const, whole: true });
  terminal.printAll(
    renderTable({
      columns: [
        { title: 'feed', whole: true },
        { title: 'state', whole: true },
        right('cursor'),
        right('head'),
        right('lag'),
        right('behind'),
        right('parked'),
        right('dead'),
        right('delivered'),
      ],
      rows: feeds.map((feed) => [
        feed.replayId ?? feed.kind,
        feed.state,
        feed.cursor,
        feed.head,
        formatCount(feed.lagEvents),
        formatSeconds(feed.lagSeconds),
        formatCount(feed.parkedUsers),
        formatCount(feed.deadLetters),
        formatCount(feed.delivered),
      ]),
      width: terminal.columns(),
      styleTitle: (title) => terminal.style('bold', title),
    }),
  );
}

interface SettingSchema {
  readonly description?: string;
  readonly writeOnly?: boolean;
}

/** Prints the types with the settings each takes. */
export function printTypes(terminal: Terminal, types: readonly DestinationType[]): void {
  types.forEach((type, index) => {
    if (index > 0) terminal.print();
    const [head = '', ...more] = wrapWords(
      `${printable(type.slug)}  ${printable(type.description)}`,
      terminal.columns() ?? 80,
      '  ',
    );
    terminal.print(terminal.style('bold', printable(type.slug)) + head.slice(printable(type.slug).length));
    terminal.printAll(more);
    const { properties = {}, required = [] } = type.settingsSchema as {
      properties?: Record<string, SettingSchema>;
      required?: string[];
    };
    for (const [name, { description = '', writeOnly }] of Object.entries(properties)) {
      const marks = [required.includes(name) ? 'required' : '', writeOnly ? 'secret' : ''].filter(Boolean);
      const mark = marks.length > 0 ? ` (${marks.join(', ')})` : '';
      const line = `  --set ${name}=…${mark}  ${printable(description)}`;
      terminal.printAll(wrapWords(line, terminal.columns() ?? 80, '      '));
    }
  });
}

function styleState(terminal: Terminal, cell: string, state: State): string {
  return terminal.style(state === 'active' ? 'green' : state === 'paused' ? 'red' : 'dim', cell);
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
