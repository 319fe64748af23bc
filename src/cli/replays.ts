/** `repeater replays`: sends any part of history again. */
import type { Command } from 'commander';
import type { Replay } from './answers.ts';
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
import { UsageError } from './failure.ts';
import { formatCount, formatRate, formatSeconds, formatTime } from './figures.ts';
import { percentOf } from './progress-line.ts';
import { runReplay, type RunOptions, watchToTheEnd } from './replay-run.ts';
import { momentHelp, selectionOf, type SelectionOptions, withSelectionOptions } from './selection-options.ts';
import { renderFacts, renderTable } from './table.ts';
import type { Terminal } from './terminal.ts';

type Options = ServerOptions & { readonly json?: boolean };

interface CreateOptions extends Options, SelectionOptions, RunOptions {
  readonly to: string;
  readonly deadLetters?: boolean;
  readonly beforeLive?: boolean;
  readonly rate?: number;
}

/** Adds the command. */
export function addReplayCommands(program: Command, context: CommandContext): void {
  const replays = program
    .command('replays')
    .description('send any part of history to a destination again, and watch it')
    .addHelpText(
      'after',
      examples(
        'repeater replays create --to dst_2 --from yesterday --until today --preview',
        'repeater replays create --to dst_2 --from yesterday --until today',
        'repeater replays watch rpl_3',
        'repeater replays rate rpl_3 50',
      ),
    );
  addCreate(replays, context);
  addReading(replays, context);
  addControl(replays, context);
}

function addCreate(replays: Command, context: CommandContext): void {
  const create = replays
    .command('create')
    .description('choose events, see the exact count with --preview, then send them in order per user')
    .requiredOption('--to <destination>', 'id of the destination, e.g. dst_2');
  withSelectionOptions(create)
    .option('--dead-letters', 'only events that this destination gave up')
    .option('--before-live', 'live delivery of this destination waits until the replay has ended')
    .option('--rate <events>', 'at most this many events a second', eventsPerSecond)
    .option('--preview', 'print what would be sent and send nothing')
    .option('--detach', 'start it and do not wait for its end')
    .addHelpText('after', momentHelp)
    .addHelpText(
      'after',
      examples(
        "# yesterday's orders of two users: count first, then send",
        'repeater replays create --to dst_2 --event "Order Completed" --user u1 u2 \\\n' +
          '      --from yesterday --until today --preview',
        '# everything this destination gave up, slowly',
        'repeater replays create --to dst_2 --dead-letters --rate 20',
      ),
    );
  withServerOptions(withJsonOption(create)).action(async (options: CreateOptions) => {
    const chosen = selectionOf(options, context.now());
    const client = await connect(context, options);
    await runReplay(context, client, {
      request: {
        destinationId: options.to,
        selection: { ...chosen, ...(options.deadLetters ? { deadLettersOnly: true } : {}) },
        order: options.beforeLive ? 'before-live' : 'alongside',
        ratePerSecond: options.rate ?? null,
      },
      options,
    });
  });
}

function addReading(replays: Command, context: CommandContext): void {
  const { terminal } = context;
  const list = replays
    .command('list', { isDefault: true })
    .description('list replays, the newest first')
    .option('--to <destination>', 'only those to this destination')
    .addOption(limitOption(50));
  withServerOptions(withJsonOption(list)).action(
    async (options: Options & { readonly to?: string; readonly limit: number }) => {
      const client = await connect(context, options);
      const found = await client.list<Replay>('/admin/replays', { destinationId: options.to }, options.limit);
      if (options.json) return terminal.printJson(found);
      printReplays(terminal, found);
    },
  );

  const show = replays.command('show').argument('<id>', 'e.g. rpl_3').description('show one');
  withServerOptions(withJsonOption(show)).action(async (id: string, options: Options) => {
    const found = await (await connect(context, options)).get<Replay>(pathOf(id));
    if (options.json) return terminal.printJson(found);
    printReplay(terminal, found);
  });

  const watch = replays
    .command('watch')
    .argument('<id>', 'e.g. rpl_3')
    .description('follow its progress to the end');
  withServerOptions(withJsonOption(watch)).action(async (id: string, options: Options) => {
    const client = await connect(context, options);
    const replay = await client.get<Replay>(pathOf(id));
    await watchToTheEnd(context, client, { replay, json: options.json === true });
  });
}

function addControl(replays: Command, context: CommandContext): void {
  const { terminal } = context;
  const verbs = [
    ['pause', 'stop for now; it keeps its place'],
    ['resume', 'go on where it was paused'],
    ['cancel', 'end it for good; what was not sent stays unsent'],
  ] as const;
  for (const [verb, description] of verbs) {
    const command = replays.command(verb).argument('<id>', 'e.g. rpl_3').description(description);
    withServerOptions(withJsonOption(command)).action(async (id: string, options: Options) => {
      const replay = await (await connect(context, options)).post<Replay>(`${pathOf(id)}/${verb}`);
      if (options.json) return terminal.printJson(replay);
      terminal.print(
        `Replay ${replay.id} is ${replay.state} at ${formatCount(replay.done)} of ${formatCount(replay.total)}.`,
      );
    });
  }

  const rate = replays
    .command('rate')
    .argument('<id>', 'e.g. rpl_3')
    .argument('<events>', 'events a second, or "none" for no limit', (text) =>
      text === 'none' ? null : eventsPerSecond(text),
    )
    .description('change its rate limit while it runs');
  withServerOptions(withJsonOption(rate)).action(
    async (id: string, ratePerSecond: number | null, options: Options) => {
      const replay = await (await connect(context, options)).patch<Replay>(pathOf(id), { ratePerSecond });
      if (options.json) return terminal.printJson(replay);
      terminal.print(`Replay ${replay.id}: ${limitText(replay)}.`);
    },
  );
}

function printReplays(terminal: Terminal, replays: readonly Replay[]): void {
  if (replays.length === 0)
    return terminal.print('There is no replay yet. Start one: repeater replays create --help');
  const right = (title: string) => ({ title, align: 'right' as const, whole: true });
  terminal.printAll(
    renderTable({
      columns: [
        { title: 'id', whole: true },
        { title: 'to', whole: true },
        { title: 'state', whole: true },
        right('done'),
        right('events'),
        right(''),
        right('dead'),
        { title: 'created' },
      ],
      rows: replays.map((replay) => [
        replay.id,
        replay.destinationId,
        replay.state,
        formatCount(replay.done),
        formatCount(replay.total),
        `${percentOf(replay.done, replay.total)} %`,
        formatCount(replay.dead),
        formatTime(replay.createdAt),
      ]),
      width: terminal.columns(),
      styleTitle: (title) => terminal.style('bold', title),
    }),
  );
}

function printReplay(terminal: Terminal, replay: Replay): void {
  const { total, done, etaSeconds } = replay;
  terminal.printAll(
    renderFacts(
      [
        ['id', replay.id],
        ['to', replay.destinationId],
        ['state', replay.state],
        ['order', replay.order],
        ['rate', limitText(replay)],
        ['done', `${formatCount(done)} of ${formatCount(total)} (${percentOf(done, total)} %)`],
        ['delivered', formatCount(replay.delivered)],
        ['dead', formatCount(replay.dead)],
        ['filtered', formatCount(replay.filtered)],
        ['time left', etaSeconds === null ? null : formatSeconds(etaSeconds)],
        ['created', formatTime(replay.createdAt)],
        ['finished', formatTime(replay.finishedAt)],
        ...Object.entries(replay.selection).map(([name, value]) => [name, selectionText(value)] as const),
      ],
      (name) => terminal.style('bold', name),
    ),
  );
}

function selectionText(value: unknown): string {
  return Array.isArray(value)
    ? value.map(String).join(', ')
    : typeof value === 'string'
      ? value
      : JSON.stringify(value);
}

function limitText({ ratePerSecond }: Replay): string {
  return ratePerSecond === null ? 'no rate limit' : `at most ${formatRate(ratePerSecond)}`;
}

function pathOf(id: string): string {
  if (id === '') throw new UsageError('The id of the replay is empty.');
  return `/admin/replays/${encodeURIComponent(id)}`;
}
