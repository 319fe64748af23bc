/** The tables in src/db/tables.ts and the migrations say the same: drizzle-kit finds nothing left to generate. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const root = fileURLToPath(new URL('../../', import.meta.url));
const run = promisify(execFile);

test('no migration is missing for the tables as they are', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'repeater-drift-'));
  try {
    for (const name of ['src/db/tables.ts', 'migrations', 'drizzle.config.ts', 'package.json']) {
      await cp(join(root, name), join(folder, name), { recursive: true });
    }
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
    const before = await readdir(join(folder, 'migrations'));
    const { stdout } = await run(
      process.execPath,
      [join(root, 'node_modules/drizzle-kit/bin.cjs'), 'generate'],
      { cwd: folder },
    );
    assert.match(stdout, /No schema changes/);
    assert.deepEqual(await readdir(join(folder, 'migrations')), before);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
