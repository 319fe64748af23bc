/** The entry: arguments to the command line, its result to the exit code. The only process.exit but bin.js. */
import { useCompileCache } from './cli/compile-cache.ts';

useCompileCache();
const { runCommandLine } = await import('./cli/command-line.ts');
const { stdin, stdout, stderr } = process;
const exitCode = await runCommandLine(process.argv.slice(2), { streams: { stdin, stdout, stderr } });

// Idle connections would keep the process for a few seconds; what was written to a pipe must get out first.
await Promise.all([stdout, stderr].map((stream) => new Promise((resolve) => stream.write('', resolve))));
process.exit(exitCode);
