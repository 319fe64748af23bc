/** Starting a replay from the command line: preview first, then the run with its progress bar, or without. */
import type { Preview, Replay } from './answers.ts';
import type { Client } from './client.ts';
import type { CommandContext } from './context.ts';
import { eventLine } from './event-line.ts';
import { formatCount, formatCountOf, formatSeconds, formatTime } from './figures.ts';
import { printable, wrapWords } from './printable.ts';
import { hasEnded, summarize, watchReplay } from './replay-progress.ts';
import type { Selection } from './selection-options.ts';
import { renderTable } from './table.ts';
import type { Terminal } from './terminal.ts';

export interface ReplayRequest {
  readonly destinationId: string;
  readonly selection: Selection & { readonly deadLettersOnly?: boolean };
  readonly order: 'alongside' | 'before-live';
  readonly ratePerSecond: number | null;
}

export interface RunOptions {
  readonly preview?: boolean;
  readonly detach?: boolean;
  readonly json?: boolean;
}

const interruptedCode = 130;

/** Previews, or starts and watches. Ends with exit code 1 when the replay was cancelled, 130 after Ctrl-C. */
export async function runReplay(
  context: CommandContext,
  client: Client,
  { request, options }: { readonly request: ReplayRequest; readonly options: RunOptions },
): Promise<void> {
  const { terminal } = context;
  const preview = await client.post<Preview>('/admin/replays/preview', request);
  if (options.preview) {
    if (options.json) return terminal.printJson(preview);
    return printPreview(terminal, preview, request);
  }
  if (preview.total === 0) {
    if (!options.json) terminal.print('Nothing to replay: no event matches.');
    else terminal.printJson(null);
    return;
  }
  if (!options.json) printWarnings(terminal, preview);
  const replay = await client.post<Replay>('/admin/replays', request);
  if (!options.json) {
    const users = formatCountOf(preview.users, 'user');
    terminal.print(
      `Replay ${replay.id}: ${formatCountOf(replay.total, 'event')} of ${users} to ${replay.destinationId}.`,
    );
  }
  if (options.detach) {
    if (options.json) return terminal.printJson(replay);
    return terminal.print(`It runs on the server. Watch it: repeater replays watch ${replay.id}`);
  }
  await watchToTheEnd(context, client, { replay, json: options.json === true });
}

/** Shows a replay's progress until it ends or Ctrl-C is pressed, then what became of it. */
export async function watchToTheEnd(
  context: CommandContext,
  client: Client,
  { replay: first, json }: { readonly replay: Replay; readonly json: boolean },
): Promise<void> {
  const { terminal, pollMs, now } = context;
  const { stdout, stderr } = terminal;
  const signal = AbortSignal.any([context.interrupt(), terminal.closed]);
  const stream = json ? (stderr.isTTY === true ? stderr : null) : stdout;
  const replay = await watchReplay(client, first, { stream, signal, pollMs, now: () => now().getTime() });
  if (json) terminal.printJson(replay);
  if (!hasEnded(replay)) {
    terminal.note(`Replay ${replay.id} goes on without you. Watch it: repeater replays watch ${replay.id}`);
    terminal.note(`Cancel it: repeater replays cancel ${replay.id}`);
    return context.exitWith(interruptedCode);
  }
  if (!json) terminal.printAll(summarize(replay));
  if (replay.state === 'cancelled') context.exitWith(1);
}

function printPreview(terminal: Terminal, preview: Preview, request: ReplayRequest): void {
  const { total, users, from, to, firstPosition, lastPosition, byEvent, samples, warnings } = preview;
  const bold = (text: string) => terminal.style('bold', text);
  const exact = `${formatCountOf(total, 'event')} of ${formatCountOf(users, 'user')}`;
  terminal.print(`${bold(exact)} would be sent to ${printable(request.destinationId)}. Nothing was sent.`);
  const { from: since, to: until } = request.selection;
  if (since !== undefined || until !== undefined) {
    terminal.print(
      `Chosen     ${formatTime(since ?? null) ?? 'the beginning'} until ${formatTime(until ?? null) ?? 'now'}`,
    );
  }
  if (total > 0) {
    terminal.print(`Accepted   ${formatTime(from)} to ${formatTime(to)}`);
    terminal.print(`Positions  ${firstPosition} to ${lastPosition}`);
    printKinds(terminal, byEvent);
    terminal.print(`\n${bold('The first of them')}`);
    const digits = Math.max(0, ...samples.map(({ position }) => String(position).length));
    terminal.printAll(
      samples.map(
        (stored) => `${String(stored.position).padStart(digits)}  ${eventLine(terminal, stored, digits + 2)}`,
      ),
    );
  }
  const { estimatedSeconds } = preview;
  if (estimatedSeconds !== null) {
    terminal.print(
      `\nAt ${formatCount(request.ratePerSecond ?? 0)}/s it takes about ${formatSeconds(estimatedSeconds)}.`,
    );
  }
  if (total > 0 && warnings.length > 0) {
    terminal.print();
    printWarnings(terminal, preview);
  }
}

function printWarnings(terminal: Terminal, { warnings }: Preview): void {
  for (const warning of warnings) {
    const lines = wrapWords(`Note: ${printable(warning)}`, terminal.columns(), '      ');
    for (const line of lines) terminal.print(terminal.style('yellow', line));
  }
}

function printKinds(terminal: Terminal, byEvent: Preview['byEvent']): void {
  terminal.print();
  terminal.printAll(
    renderTable({
      columns: [
        { title: 'events', align: 'right', whole: true },
        { title: 'type', whole: true },
        { title: 'name' },
      ],
      rows: byEvent.map(({ type, event, count }) => [formatCount(count), type, event]),
      width: terminal.columns(),
      styleTitle: (title) => terminal.style('bold', title),
    }),
  );
}
