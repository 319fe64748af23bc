/** `repeater destinations`: where events are delivered to. */
import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { type Command, Option } from 'commander';
import type { Destination, DestinationStatus, DestinationType } from './answers.ts';
import type { Client } from './client.ts';
import {
  type CommandContext,
  connect,
  examples,
  type ServerOptions,
  withJsonOption,
  withServerOptions,
} from './context.ts';
import { CommandError, UsageError } from './failure.ts';
import { printDestination, printDestinations, printStatus, printTypes } from './destination-output.ts';
import { type Assignment, assignSettings, collectAssignment, type SettingsSchema } from './settings-input.ts';
import type { Terminal } from './terminal.ts';

type Options = ServerOptions & { readonly json?: boolean };

interface SettingsOptions extends Options {
  readonly name?: string;
  readonly set?: readonly Assignment[];
  readonly jsonSettings?: string;
  readonly policy?: readonly Assignment[];
}

interface CreateOptions extends SettingsOptions {
  readonly type: string;
  readonly name: string;
  readonly startFrom: string;
  readonly disabled?: boolean;
}

/** Adds the command. */
export function addDestinationCommands(program: Command, context: CommandContext): void {
  const destinations = program
    .command('destinations')
    .description('list, create, change and watch destinations: where events are delivered to')
    .addHelpText(
      'after',
      examples(
        'repeater destinations',
        'repeater destinations types',
        'repeater destinations create --type webhook --name Orders \\\n' +
          '      --set url=https://example.com/hook',
        'repeater destinations status dst_1',
        'repeater destinations disable dst_1',
      ),
    );
  addReading(destinations, context);
  addCreate(destinations, context);
  addUpdate(destinations, context);
  addSwitches(destinations, context);
}

function addReading(destinations: Command, context: CommandContext): void {
  const { terminal } = context;
  const list = destinations.command('list', { isDefault: true }).description('list all destinations');
  withServerOptions(withJsonOption(list)).action(async (options: Options) => {
    const found = await (await connect(context, options)).list<Destination>('/admin/destinations');
    if (options.json) return terminal.printJson(found);
    printDestinations(terminal, found);
  });

  const show = destinations
    .command('show')
    .argument('<id>', 'e.g. dst_1')
    .description('show one, its secrets masked');
  withServerOptions(withJsonOption(show)).action(async (id: string, options: Options) => {
    const found = await (await connect(context, options)).get<Destination>(pathOf(id));
    if (options.json) return terminal.printJson(found);
    printDestination(terminal, found);
  });

  const status = destinations
    .command('status')
    .argument('<id>', 'e.g. dst_1')
    .description('show how far it is: position, lag, parked users, dead letters')
    .addHelpText(
      'after',
      `
Each line is a feed: live delivery, or a replay. Everything up to "cursor" has
ended or belongs to a parked user; "head" is the newest event of the feed.
`,
    );
  withServerOptions(withJsonOption(status)).action(async (id: string, options: Options) => {
    const found = await (await connect(context, options)).get<DestinationStatus>(`${pathOf(id)}/status`);
    if (options.json) return terminal.printJson(found);
    printStatus(terminal, found);
  });

  const types = destinations
    .command('types')
    .description('list the types of destinations and their settings');
  withServerOptions(withJsonOption(types)).action(async (options: Options) => {
    const found = await (await connect(context, options)).list<DestinationType>('/admin/destination-types');
    if (options.json) return terminal.printJson(found);
    printTypes(terminal, found);
  });
}

function addCreate(destinations: Command, context: CommandContext): void {
  const { terminal } = context;
  const create = destinations
    .command('create')
    .description('create a destination; delivery starts at once')
    .requiredOption('--type <type>', 'e.g. webhook; see "repeater destinations types"')
    .requiredOption('--name <name>', 'what people will call it')
    .addOption(
      new Option('--start-from <point>', 'deliver only what comes from now on, or all of history first')
        .choices(['now', 'beginning'])
        .default('now'),
    )
    .option('--disabled', 'create it switched off');
  withSettingsOptions(create).addHelpText(
    'after',
    examples(
      '# to a private address: start the server with ALLOW_PRIVATE_DESTINATIONS=true',
      'repeater destinations create --type webhook --name Orders \\\n' +
        '      --set url=https://example.com/hook',
      '# everything stored first, then what comes',
      'repeater destinations create --type webhook --name Archive \\\n' +
        '      --start-from beginning --set url=https://example.com/all \\\n' +
        '      --set headers.authorization="Bearer abc" --policy concurrency=8',
    ),
  );
  withServerOptions(withJsonOption(create)).action(async (options: CreateOptions) => {
    const client = await connect(context, options);
    const schema = await schemaOf(client, options.type);
    const created = await client.post<Destination>('/admin/destinations', {
      type: options.type,
      name: options.name,
      settings: await settingsOf(terminal, options, { schema }),
      enabled: options.disabled !== true,
      startFrom: options.startFrom,
      ...(options.policy === undefined ? {} : { policy: assignSettings(options.policy) }),
    });
    if (options.json) return terminal.printJson(created);
    terminal.print(`Created ${created.id}.`);
    printDestination(terminal, created);
    const generated = Object.entries(schema.properties ?? {}).filter(
      ([name, { writeOnly }]) => writeOnly === true && isReadable(created.settings[name]),
    );
    for (const [name] of generated)
      terminal.print(`\nThe ${name} was made just now and is shown only this once: keep it.`);
  });
}

function addUpdate(destinations: Command, context: CommandContext): void {
  const { terminal } = context;
  const update = destinations
    .command('update')
    .argument('<id>', 'e.g. dst_1')
    .description('change settings, policy or name; what is not named stays')
    .option('--name <name>', 'what people will call it')
    .option('--unset <names...>', 'settings to remove');
  withSettingsOptions(update).addHelpText(
    'after',
    examples(
      'repeater destinations update dst_1 --set url=https://example.com/new',
      '# give up after an hour; a refused event blocks its user',
      'repeater destinations update dst_1 --policy retry.spanMs=3600000 \\\n' +
        '      --policy onPermanentFailure=block',
    ),
  );
  withServerOptions(withJsonOption(update)).action(
    async (id: string, options: SettingsOptions & { readonly unset?: readonly string[] }) => {
      const { name, set, jsonSettings, policy, unset = [] } = options;
      const changesSettings = set !== undefined || jsonSettings !== undefined || unset.length > 0;
      if (name === undefined && policy === undefined && !changesSettings) {
        throw new UsageError('Nothing to change: give --name, --set, --unset, --json-settings or --policy.');
      }
      const client = await connect(context, options);
      const present = await client.get<Destination>(pathOf(id));
      const removed = Object.fromEntries(unset.map((setting) => [setting, null]));
      const schema = await schemaOf(client, present.type);
      const given = await settingsOf(terminal, options, { schema, present: present.settings });
      const settings = { ...given, ...removed };
      const updated = await client.patch<Destination>(pathOf(id), {
        ...(name === undefined ? {} : { name }),
        ...(changesSettings ? { settings } : {}),
        ...(policy === undefined ? {} : { policy: assignSettings(policy, undefined, present.policy) }),
      });
      if (options.json) return terminal.printJson(updated);
      terminal.print(`Changed ${updated.id}.`);
      printDestination(terminal, updated);
    },
  );
}

function addSwitches(destinations: Command, context: CommandContext): void {
  const { terminal } = context;
  const switches = [
    ['enable', true, 'switch it on, or end a pause; it goes on where it stopped'],
    ['disable', false, 'switch it off; it keeps its place'],
  ] as const;
  for (const [verb, enabled, description] of switches) {
    const command = destinations.command(verb).argument('<id>', 'e.g. dst_1').description(description);
    withServerOptions(withJsonOption(command)).action(async (id: string, options: Options) => {
      const changed = await (await connect(context, options)).patch<Destination>(pathOf(id), { enabled });
      if (options.json) return terminal.printJson(changed);
      terminal.print(`${changed.id} is ${changed.state}.`);
    });
  }

  const remove = destinations
    .command('delete')
    .argument('<id>', 'e.g. dst_1')
    .description('delete it: its place, parked users and settings are gone; events stay');
  withServerOptions(withJsonOption(remove)).action(async (id: string, options: Options) => {
    await (await connect(context, options)).delete(pathOf(id));
    if (options.json) return terminal.printJson({ id, deleted: true });
    terminal.print(`Deleted ${id}.`);
  });
}

function withSettingsOptions(command: Command): Command {
  return command
    .option('--set <name=value>', 'a setting; may be repeated, a dot leads into an object', collectAssignment)
    .option('--json-settings <file>', 'settings from a JSON file ("-": stdin); --set goes on top')
    .option(
      '--policy <name=value>',
      'how it retries, e.g. retry.spanMs=3600000; may be repeated',
      collectAssignment,
    );
}

/** The settings schema of a type; of an unknown one an empty schema, since the server says best what is wrong. */
async function schemaOf(client: Client, type: string): Promise<SettingsSchema> {
  const types = await client.list<DestinationType>('/admin/destination-types');
  return types.find(({ slug }) => slug === type)?.settingsSchema ?? {};
}

/** A secret that is neither masked nor a reference. */
function isReadable(value: unknown): boolean {
  return typeof value === 'string' && !value.startsWith('•') && !value.startsWith('env:');
}

/** Settings from a file and `--set`; objects that a dotted `--set` leads into start from what is there. */
async function settingsOf(
  terminal: Terminal,
  { set = [], jsonSettings }: SettingsOptions,
  type: { readonly schema: SettingsSchema; readonly present?: Readonly<Record<string, unknown>> },
): Promise<Record<string, unknown>> {
  const given = jsonSettings === undefined ? {} : await readSettings(terminal, jsonSettings);
  const opened = set.filter(({ path }) => path.length > 1).map(({ path: [first = ''] }) => first);
  const start = Object.entries(type.present ?? {}).filter(([name]) => opened.includes(name));
  return assignSettings(set, type.schema, { ...Object.fromEntries(start), ...given });
}

async function readSettings(terminal: Terminal, file: string): Promise<Record<string, unknown>> {
  let content: string;
  try {
    content = file === '-' ? await text(terminal.stdin) : await readFile(file, 'utf8');
  } catch (cause) {
    throw new CommandError(`${file} cannot be read (${(cause as NodeJS.ErrnoException).code ?? 'error'}).`, {
      cause,
    });
  }
  let value: unknown;
  try {
    value = JSON.parse(content);
  } catch (cause) {
    throw new UsageError(`--json-settings: ${file} is not JSON (${(cause as Error).message}).`);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  throw new UsageError(`--json-settings: ${file} must hold an object.`);
}

function pathOf(id: string): string {
  return `/admin/destinations/${encodeURIComponent(id)}`;
}
