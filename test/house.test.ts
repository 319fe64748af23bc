/**
 * The import rules of the house (.dependency-cruiser.json) hold, and the checker is not blind: with a compiler
 * it does not know it sees no module at all and reports success. The documents about the house are not stale.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { access, cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const project = fileURLToPath(new URL('..', import.meta.url));
const minModules = 40;

interface CruiseResult {
  modules: { source: string }[];
  summary: { violations: { from: string; to: string; rule: { name: string } }[] };
}

async function cruise(folder: string): Promise<CruiseResult> {
  const program = join(project, 'node_modules/.bin/depcruise');
  const { stdout } = await promisify(execFile)(
    process.execPath,
    [program, 'src', '--config', '.dependency-cruiser.json', '--output-type', 'json'],
    { cwd: folder, maxBuffer: 64 * 1024 * 1024 },
  );
  return JSON.parse(stdout) as CruiseResult;
}

test('every import is allowed, and every module was looked at', async () => {
  const { modules, summary } = await cruise(project);
  assert.deepEqual(
    summary.violations.map(({ from, to, rule }) => `${rule.name}: ${from} -> ${to}`),
    [],
  );
  const seen = modules.filter(({ source }) => source.startsWith('src/')).length;
  assert.ok(seen >= minModules, `the checker saw ${seen} modules of at least ${minModules}`);
});

test('the checker finds imports that are planted', async (context) => {
  const planted: [rule: string, file: string, text: string][] = [
    ['lib-imports', 'src/lib/planted.ts', `import type { Planted } from '../db/planted.ts';`],
    ['replay-imports', 'src/replay/planted.ts', `import { planted } from '../delivery/planted.ts';`],
    ['destination-imports', 'src/destinations/planted.ts', `import { planted } from '../db/planted.ts';`],
    ['routing-imports', 'src/routing/planted.ts', `import { planted } from '../jobs/planted.ts';`],
    ['postgres-owner', 'src/events/planted.ts', `import type { Sql } from 'postgres';`],
    [
      'drizzle-orm-driver-owner',
      'src/replay/planted-too.ts',
      `import { drizzle } from 'drizzle-orm/postgres-js';`,
    ],
    [
      'hono-owner',
      'src/delivery/planted.ts',
      `import { cors } from 'hono/cors'; export const planted = cors;`,
    ],
    ['undici-owner', 'src/warehouse/planted.ts', `import { request } from 'undici';`],
    [
      'no-cycles',
      'src/db/planted-b.ts',
      `import type { Planted } from './planted.ts'; export type B = Planted[];`,
    ],
    ['no-unresolved', 'src/jobs/planted.ts', `export { planted } from './nowhere.ts';`],
  ];
  const cycle = `import type { B } from './planted-b.ts'; export type Planted = B;`;
  const copy = await copyProject(context);
  for (const [, file, text] of [...planted, ['', 'src/db/planted.ts', cycle] as const]) {
    const path = join(copy, file);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, `${text}\n`);
  }

  const { summary } = await cruise(copy);
  for (const [rule, file] of planted) {
    assert.ok(
      summary.violations.some((found) => found.rule.name === rule && found.from === file),
      `${rule} did not find ${file}: ${JSON.stringify(summary.violations.map((found) => [found.rule.name, found.from]))}`,
    );
  }
});

test('CONTRIBUTING.md says what each folder of src does', async () => {
  const text = await readFile(join(project, 'CONTRIBUTING.md'), 'utf8');
  const entries = await readdir(join(project, 'src'), { withFileTypes: true });
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  const told = [...text.matchAll(/^\| `([a-z]+)` +\|/gm)].map(([, name]) => name);
  assert.deepEqual(new Set(told), new Set(folders));
});

test('links between the documents lead to files', async () => {
  const docs = (await readdir(join(project, 'docs'))).filter((name) => name.endsWith('.md'));
  const pages = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...docs.map((name) => `docs/${name}`)];
  let links = 0;
  for (const page of pages) {
    const text = await readFile(join(project, page), 'utf8');
    for (const [, target = ''] of text.matchAll(/\]\((?!\w+:)([^)#]+)/g)) {
      links++;
      await access(join(project, dirname(page), target));
    }
  }
  assert.ok(links > 10, `${links} links`);
});

async function copyProject(context: TestContext): Promise<string> {
  const copy = await mkdtemp(join(tmpdir(), 'repeater-house-'));
  context.after(() => rm(copy, { recursive: true }));
  for (const name of ['src', 'package.json', 'tsconfig.json', '.dependency-cruiser.json']) {
    await cp(join(project, name), join(copy, name), { recursive: true });
  }
  await symlink(join(project, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}
