/** `repeater serve`, `migrate` and `reload`: the commands that are the server or act on its process. */
import { type Command, Option } from 'commander';
import { environmentVariables, loadConfig } from '../config/env.ts';
import { toError } from '../lib/errors.ts';
import type { CommandContext } from './context.ts';
import { connect, examples, type ServerOptions, wholeNumber, withServerOptions } from './context.ts';

interface ServeOptions {
  readonly port?: number;
  readonly role?: string;
  readonly takeOver?: boolean;
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
    .addOption(new Option('--take-over').hideHelp())
    .addHelpText('after', `\nEnvironment:\n${variablesHelp()}`)
    .addHelpText(
      'after',
      examples('repeater serve', 'DATABASE_URL=postgres://… repeater serve --role worker'),
    )
    .action(async ({ port, role, takeOver }: ServeOptions) => {
      const first = takeOver ? await (await import('./successor.ts')).joinFirstProcess() : null;
      try {
        const config = loadConfig({
          ...given,
          overrides: { PORT: port?.toString(), ROLE: role },
          isTerminal: terminal.isInteractive,
        });
        const { start } = await import('./start.ts');
        context.exitWith(await start({ config, terminal, first, ...given }));
      } catch (error) {
        await first?.failed(toError(error).message);
        throw error;
      }
    });

  const reload = program
    .command('reload')
    .description('replace the server process by a new one without refusing a connection')
    .addHelpText(
      'after',
      `
The new process takes over the listening socket and the one before finishes
what it has. When the new one does not start, the one before goes on and this
command says why. SIGHUP to the server process does the same. What changed in
the program's files is taken up; the environment stays that of the first start.`,
    );
  withServerOptions(reload).action(async (options: ServerOptions) => {
    await (await connect(context, options)).post('/admin/reload');
    terminal.print('A new process serves; the one before finishes what it has.');
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
