/**
 * A destination is three files of one name: code, schema and test. What is missing or does not fit stops the
 * start; what people read in a schema is there and true.
 */
import assert from 'node:assert/strict';
import { cp, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { loadDestinations, type Catalogue } from '../../src/destinations/catalogue.ts';
import { propertiesWithoutDescription } from '../support/schema-walk.ts';

const project = fileURLToPath(new URL('../..', import.meta.url));
/** Files of src/destinations that are no destinations. */
const contract = ['answers', 'catalogue', 'definition'];

const names = async (folder: string, ending: string) =>
  (await readdir(join(project, folder)))
    .filter((file) => file.endsWith(ending))
    .map((file) => file.slice(0, -ending.length));

let catalogue: Catalogue;
before(async () => {
  catalogue = await loadDestinations();
});

test('every destination has its code, its schema and its test', async () => {
  const slugs = (await names('src/destinations', '.ts')).filter((name) => !contract.includes(name));
  assert.ok(slugs.includes('webhook'));
  assert.deepEqual(
    catalogue
      .list()
      .map(({ definition }) => definition.slug)
      .sort(),
    slugs.sort(),
  );
  assert.deepEqual((await names('schemas/destination', '.json')).sort(), slugs);
  const tests = await names('test/destinations', '.test.ts');
  assert.deepEqual(
    slugs.filter((slug) => !tests.includes(slug)),
    [],
    'destinations without a test',
  );
});

test('every definition says what people need to know before they use it', () => {
  for (const { definition } of catalogue.list()) {
    const { slug, name, description, docs, accepts, limits, replay } = definition;
    assert.match(slug, /^[a-z][a-z0-9-]*$/);
    assert.ok(name.length > 0 && description.endsWith('.'), slug);
    assert.ok(docs.length > 0, `${slug} names no source`);
    for (const { url, readAt } of docs) {
      assert.match(url, /^https:\/\//, slug);
      assert.match(readAt, /^\d{4}-\d\d-\d\d$/, slug);
    }
    assert.ok(accepts.length > 0, slug);
    assert.equal(new Set(accepts).size, accepts.length, slug);
    assert.ok(limits.concurrency >= 1 && limits.batchEvents >= 1 && limits.timeoutMs <= 30_000, slug);
    assert.ok(replay.oldestEventHours === null || replay.oldestEventHours > 0, slug);
  }
});

test('every setting is described, and the examples are valid', () => {
  for (const { definition, settingsSchema, validateSettings } of catalogue.list()) {
    const { title, description, examples, additionalProperties } = settingsSchema as Record<string, unknown>;
    assert.equal(title, definition.name);
    assert.equal(description, definition.description);
    assert.equal(additionalProperties, false, 'a misspelt setting must be refused');
    assert.deepEqual(propertiesWithoutDescription(settingsSchema), [], definition.slug);
    assert.ok(Array.isArray(examples) && examples.length > 0, `${definition.slug} has no examples`);
    for (const example of examples) assert.deepEqual(validateSettings(example), []);
    assert.notDeepEqual(validateSettings({ ...(examples[0] as object), misspelt: 1 }), []);
  }
});

test('a file without its partner, with another slug or a schema that is wrong stops the start', async (context) => {
  const copy = await mkdtemp(join(tmpdir(), 'repeater-destinations-'));
  context.after(() => rm(copy, { recursive: true }));
  for (const name of ['src', 'schemas', 'package.json'])
    await cp(join(project, name), join(copy, name), { recursive: true });
  await symlink(join(project, 'node_modules'), join(copy, 'node_modules'));
  const { href } = pathToFileURL(join(copy, 'src/destinations/catalogue.ts'));
  const { loadDestinations: loadCopy } = (await import(href)) as {
    loadDestinations: typeof loadDestinations;
  };
  assert.equal((await loadCopy()).list().length, catalogue.list().length);

  const code = (slug: string) => [
    `src/destinations/${slug}.ts`,
    `export default { slug: '${slug}', name: 'Planted' };\n`,
  ];
  const schema = (slug: string, text: string) => [`schemas/destination/${slug}.json`, text];
  const planted: [files: string[][], error: RegExp][] = [
    [
      [code('planted-a')],
      /src\/destinations\/planted-a\.ts has no readable schemas\/destination\/planted-a\.json/,
    ],
    [
      [schema('planted-b', '{}')],
      /schemas\/destination\/planted-b\.json has no src\/destinations\/planted-b\.ts/,
    ],
    [
      [[`src/destinations/planted-c.ts`, code('another')[1] as string], schema('planted-c', '{}')],
      /planted-c\.ts: expected a default export with the slug "planted-c"/,
    ],
    [
      [[`src/destinations/planted-d.ts`, 'export const slug = 1;\n'], schema('planted-d', '{}')],
      /planted-d\.ts: expected a default export/,
    ],
    [
      [code('planted-e'), schema('planted-e', '{"type":"nothing"}')],
      /Schema destination\/planted-e\.json does not compile/,
    ],
    [[code('planted-f'), schema('planted-f', '{"type":')], /planted-f\.ts has no readable/],
  ];
  for (const [files, error] of planted) {
    for (const [file, text] of files) await writeFile(join(copy, file as string), text as string);
    await assert.rejects(loadCopy(), { message: error });
    for (const [file] of files) await rm(join(copy, file as string));
  }
  assert.equal((await loadCopy()).list().length, catalogue.list().length);
});
