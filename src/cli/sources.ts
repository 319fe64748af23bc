/** `repeater sources`: where events come from, and their write keys. */
import type { Command } from 'commander';
import type { Source } from './answers.ts';
import {
  type CommandContext,
  connect,
  examples,
  type ServerOptions,
  withJsonOption,
  withServerOptions,
} from './context.ts';
import { formatTime } from './figures.ts';
import { printable } from './printable.ts';
import { renderTable } from './table.ts';

type Options = ServerOptions & { readonly json?: boolean };

/** Adds the command. */
export function addSourceCommands(program: Command, context: CommandContext): void {
  const { terminal } = context;
  const sources = program
    .command('sources')
    .description('list and create sources: where events come from, each with a write key')
    .addHelpText('after', examples('repeater sources', 'repeater sources create "Web shop"'));

  const list = sources
    .command('list', { isDefault: true })
    .description('list all sources with their write keys');
  withServerOptions(withJsonOption(list)).action(async (options: Options) => {
    const found = await (await connect(context, options)).list<Source>('/admin/sources');
    if (options.json) return terminal.printJson(found);
    if (found.length === 0)
      return terminal.print('There is no source yet. Create one: repeater sources create NAME');
    terminal.printAll(
      renderTable({
        columns: [
          { title: 'id', whole: true },
          { title: 'name' },
          { title: 'write key', whole: true },
          { title: 'created' },
        ],
        rows: found.map((source) => [source.id, source.name, source.writeKey, formatTime(source.createdAt)]),
        width: terminal.columns(),
        styleTitle: (title) => terminal.style('bold', title),
      }),
    );
  });

  const create = sources
    .command('create')
    .argument('<name>', 'what people will call it')
    .description('create a source and print its write key');
  withServerOptions(withJsonOption(create)).action(async (name: string, options: Options) => {
    const source = await (await connect(context, options)).post<Source>('/admin/sources', { name });
    if (options.json) return terminal.printJson(source);
    terminal.print(`Created ${source.id} (${printable(source.name)}).`);
    terminal.print(`Write key  ${source.writeKey ?? '-'}`);
  });
}
