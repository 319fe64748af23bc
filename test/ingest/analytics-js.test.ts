/** analytics.js as a file: the key filled in, compressed for who takes it, recognised when it is known, nothing else given out. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Script } from 'node:vm';
import { gunzipSync } from 'node:zlib';
import { createAnalyticsJs } from '../../src/ingest/analytics-js.ts';

const app = createAnalyticsJs({ sourceOf: (key) => Promise.resolve(key.startsWith('known') ? 1 : null) });

const get = (path: string, headers: Record<string, string> = {}) =>
  app.request(path, { headers }, { incoming: { headers: {} } });
const script = (key: string) => `/analytics.js/v1/${encodeURIComponent(key)}/analytics.min.js`;

test('the script holds the key, whatever characters it is made of, in every encoding', async () => {
  const key = `known"$&'\\</script>`;
  const plain = await get(script(key));
  const text = await plain.text();
  assert.equal(plain.status, 200);
  assert.match(plain.headers.get('content-type') ?? '', /^text\/javascript/);
  assert.ok(text.includes(`window.analyticsWriteKey=${JSON.stringify(key)}`));
  assert.doesNotMatch(text, /__WRITE_KEY__/);
  // It is a program.
  assert.doesNotThrow(() => new Script(text));

  const zipped = await get(script(key), { 'accept-encoding': 'br, gzip;q=0.8' });
  assert.equal(zipped.headers.get('content-encoding'), 'gzip');
  const bytes = Buffer.from(await zipped.arrayBuffer());
  assert.ok(bytes.length < text.length / 3, `${bytes.length} of ${text.length}`);
  assert.equal(gunzipSync(bytes).toString(), text);
  assert.equal(
    (await get(script(key), { 'accept-encoding': 'gzip;q=0' })).headers.get('content-encoding'),
    null,
  );
});

test('a script that is known is not sent again; another key is another script', async () => {
  const first = await get(script('known-1'));
  const etag = first.headers.get('etag') ?? '';
  assert.match(etag, /^W\/"[\w-]{22}"$/);
  assert.equal(first.headers.get('vary'), 'Accept-Encoding');
  assert.match(first.headers.get('cache-control') ?? '', /max-age=300/);
  const again = await get(script('known-1'), { 'if-none-match': `"other", ${etag}` });
  assert.deepEqual([again.status, await again.text()], [304, '']);
  assert.equal((await get(script('known-2'), { 'if-none-match': etag })).status, 200);
});

test('the parts that the script may load are there, for ever, and no other file is', async () => {
  const text = await (await get(script('known'))).text();
  const [, names = '', hashes = ''] =
    /\{([^{}]*)\}\[\w\]\|\|\w\)\+"\.bundle\."\+\{([^{}]*)\}/.exec(text) ?? [];
  const entries = (list: string) =>
    [...list.matchAll(/(\d+):"([\w-]+)"/g)].map(([, id = '', value = '']) => [id, value] as const);
  const nameOf = new Map(entries(names));
  const parts = entries(hashes).map(([id, hash]) => `${nameOf.get(id) ?? id}.bundle.${hash}.js`);
  assert.ok(parts.length >= 5, `the script names its parts: ${parts.join()}`);
  for (const part of parts) {
    const served = await get(`/analytics-next/bundles/${part}`);
    assert.equal(served.status, 200, part);
    assert.match(served.headers.get('cache-control') ?? '', /immutable/);
  }
  for (const file of ['index.js', 'standalone.js', '..%2f..%2f..%2fpackage.json', 'x.bundle.1.js'])
    assert.equal((await get(`/analytics-next/bundles/${file}`)).status, 404, file);
});

test('an unknown key is refused', async () => {
  const refused = await get(script('nobody'));
  assert.equal(refused.status, 404);
  assert.equal(((await refused.json()) as { code: string }).code, 'unknown_write_key');
});
