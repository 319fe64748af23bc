/** `repeater serve` and `repeater migrate`: the commands that are the server, not its clients. */
import { type Command, Option } from 'commander';
import { environmentVariables, loadConfig } from '../config/env.ts';
import type { CommandContext } from './context.ts';
import { examples, wholeNumber } from './context.ts';

interface ServeOptions {
  readonly port?: number;
  readonly role?: string;
}

/** Adds the commands. What they need is loaded when they run, so that the others start fast. */
export function addServerCommands(program: Command, context: CommandContext): void {
  const { terminal, environment } = context;
  const given = environment === undefined ? {} : { environment };

  program
    .command('serve')
    .description('start the server; without DATABASE_URL also an embedded PostgreSQL')
    .option('--port <port>', 'instead of PORT', wholeNumber(0))
    .addOption(new Option('--role <role>', 'instead of ROLE').choices(['all', 'api', 'worker']))
    .addHelpText('after', `\nEnvironment:\n${variablesHelp()}`)
    .addHelpText(
      'after',
      examples('repeater serve', 'DATABASE_URL=postgres://… repeater serve --role worker'),
    )
    .action(async ({ port, role }: ServeOptions) => {
      const config = loadConfig({
        ...given,
        overrides: { PORT: port?.toString(), ROLE: role },
        isTerminal: terminal.isInteractive,
      });
      const { start } = await import('./start.ts');
      context.exitWith(await start({ config, terminal, ...given }));
    });

  program
    .command('migrate')
    .description('bring the database to this version and exit; serve does the same at each start')
    .addHelpText('after', examples('DATABASE_URL=postgres://… repeater migrate'))
    .action(async () => {
      const config = loadConfig({ ...given, isTerminal: terminal.isInteractive });
      const { migrate } = await import('./start.ts');
      await migrate({ config, terminal });
      terminal.print('The database is at the version of this program.');
    });
}

function variablesHelp(): string {
  return environmentVariables
    .map(
      ([name, fallback, meaning]) =>
        `  ${name}\n      ${meaning.replaceAll('`', '')}\n      Default: ${fallback}.`,
    )
    .join('\n');
}
