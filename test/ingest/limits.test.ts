import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import * as limits from '../../src/ingest/limits.ts';

test('docs/limits.md names every limit with its number', async () => {
  const page = await readFile(new URL('../../docs/limits.md', import.meta.url), 'utf8');
  const documented = [...page.matchAll(/^\| `(\w+)` +\| (\d+) /gm)].map(([, name, value]) => [
    name,
    Number(value),
  ]);
  assert.deepEqual(Object.fromEntries(documented), { ...limits });
});

test('the schemas of the calls keep the same lengths', async () => {
  const common = await readFile(new URL('../../schemas/event/common.json', import.meta.url), 'utf8');
  const track = await readFile(new URL('../../schemas/event/track.json', import.meta.url), 'utf8');
  assert.ok(common.includes(`"maxLength": ${limits.maxIdLength}`));
  assert.ok(track.includes(`"maxLength": ${limits.maxEventNameLength}`));
});
