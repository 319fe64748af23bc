/** One event as one line for a person, the same in `tail` and in the preview of a replay. */
import type { StoredEvent } from './answers.ts';
import { formatClock } from './figures.ts';
import { cutToWidth, padTo, printable, printableJson } from './printable.ts';
import type { Terminal } from './terminal.ts';

const colours = {
  track: 'green',
  identify: 'cyan',
  page: 'blue',
  screen: 'blue',
  group: 'magenta',
  alias: 'yellow',
} as const;

/** `09:15:02  track     Order Completed  u1  {"total":42}`, cut to the terminal less what stands before it. */
export function eventLine(terminal: Terminal, stored: StoredEvent, before = 0): string {
  const { event, type } = stored;
  const clock = formatClock(new Date(stored.receivedAt));
  const name = printable(stored.name ?? textOf(event['name']) ?? '');
  const user = printable(stored.userId ?? stored.anonymousId ?? '');
  const content = event['properties'] ?? event['traits'] ?? {};
  const head = `${clock}  ${padTo(printable(type), 8)}  `;
  const facts = [name, user].filter((text) => text !== '').join('  ');
  const rest = Object.keys(content).length === 0 ? '' : `  ${printableJson(content)}`;
  const width = terminal.columns();
  const cut = (text: string) => (width === null ? text : cutToWidth(text, width - before - head.length));
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
