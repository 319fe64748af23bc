#!/usr/bin/env node
/**
 * The `repeater` command, in plain JavaScript that any Node from 20 on can read. The program itself is
 * TypeScript that Node 24 runs as it is; on an older Node this file starts it again with the Node that the
 * project pins (the `node` package) and passes arguments, signals and the exit code through.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';

const neededMajor = 24;
const main = new URL('../main.ts', import.meta.url);

if (Number(process.versions.node.split('.')[0]) >= neededMajor) {
  await import(main.href);
} else {
  runWithPinnedNode();
}

function runWithPinnedNode() {
  const modules = fileURLToPath(new URL('../../node_modules/', import.meta.url));
  const suffix = process.platform === 'win32' ? '.exe' : '';
  const pinned = [`${modules}node/bin/node${suffix}`, `${modules}.bin/node${suffix}`].find((path) =>
    existsSync(path),
  );
  if (pinned === undefined) {
    process.stderr.write(
      `Repeater needs Node.js ${neededMajor} or later; this is ${process.version}, and the one that comes with the\n` +
        `project is not in ${modules}.\nRun "npm ci" in the project's folder, or install Node.js ${neededMajor}.\n`,
    );
    process.exitCode = 1;
    return;
  }
  const child = spawn(pinned, [fileURLToPath(main), ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(signal, () => child.kill(signal));
  }
  child.on('error', (error) => {
    process.stderr.write(`${pinned} could not be started: ${error.message}\n`);
    process.exit(1);
  });
  child.on('exit', (code, signal) => {
    process.exit(code ?? 128 + (constants.signals[signal] ?? 0));
  });
}
