/**
 * The browser SDKs in a real Chromium, on a page of another origin, against the real program: analytics.js as the
 * program itself serves it and from its package, and RudderStack's. What they send is what is stored, once each, also
 * when answers are lost and when the page is left while events are on their way.
 */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { openPool, type Sql } from '../../src/db/client.ts';
import { launchBrowser, noBrowser, type Site, type SiteFile, startSite } from '../support/browser.ts';
import { createTestDatabase, type TestDatabase } from '../support/database.ts';
import { type HttpProxy, type Json, startHttpProxy } from '../support/http-proxy.ts';
import { type RepeaterProcess, startRepeater, writeKey } from '../support/process.ts';

const require = createRequire(import.meta.url);
const count = 12;

let database: TestDatabase;
let sql: Sql;
let repeater: RepeaterProcess;
let proxy: HttpProxy;
let site: Site;
let browser: Browser;
let page: Page;
let troubles: string[];

/** The snippet of docs/browser.md, with this program's address. */
async function snippet(): Promise<string> {
  const docs = await readFile(new URL('../../docs/browser.md', import.meta.url), 'utf8');
  const [, code] = /```html\n(.*?)```/s.exec(docs) ?? [];
  assert.ok(code, 'docs/browser.md has the snippet');
  return code.replaceAll('https://events.example.com', proxy.url).replaceAll('YOUR_WRITE_KEY', writeKey);
}

async function createSite(): Promise<Site> {
  const html = (head: string) => ({
    type: 'text/html' as const,
    content: `<!doctype html><title>Shop</title>${head}<p>Hello</p>`,
  });
  const script = async (path: string) => ({
    type: 'text/javascript' as const,
    content: await readFile(path),
  });
  const segment = dirname(require.resolve('@segment/analytics-next/package.json'));
  const rudder = join(dirname(require.resolve('@rudderstack/analytics-js')), '../bundled/esm/index.mjs');
  return startSite(
    new Map<string, SiteFile>([
      ['/snippet', html(await snippet())],
      ['/package', html('<script src="/segment.js"></script>')],
      [
        '/rudder',
        html(
          '<script type="module">import { RudderAnalytics } from "/rudder.mjs"; window.rudder = new RudderAnalytics();</script>',
        ),
      ],
      ['/elsewhere', html('')],
      ['/segment.js', await script(join(segment, 'dist/umd/index.js'))],
      ['/rudder.mjs', await script(rudder)],
    ]),
  );
}

/** What is stored of a user, in the order of acceptance. */
async function stored(userId: string): Promise<Json[]> {
  const rows = await sql<{ text: string }[]>`
    select payload::text as text from warehouse.events where payload->>'userId' = ${userId} order by id`;
  return rows.map(({ text }) => JSON.parse(text) as Json);
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!(await holds())) {
    assert.ok(performance.now() < deadline, `not yet: ${what}; ${troubles.join('; ')}`);
    await page.waitForTimeout(50);
  }
}

/** Waits for as many; what comes on top is found by who counts them. */
async function untilStored(userId: string, wanted: number): Promise<Json[]> {
  let kept: Json[] = [];
  await until(`${wanted} stored`, async () => (kept = await stored(userId)).length >= wanted);
  return kept;
}

const seqs = (events: readonly Json[]) =>
  events
    .filter(({ type }) => type === 'track')
    .map((event) => (event['properties'] as { seq: number }).seq)
    .toSorted((a, b) => a - b);
const all = Array.from({ length: count }, (_, seq) => seq);

const properties = { 'größe 日本': 'é\u202e', list: [[], {}, null, 0.1], deep: { a: [{ b: 1e-7 }] }, '': '' };

describe('browser SDKs', { skip: noBrowser }, () => {
  before(async () => {
    database = await createTestDatabase();
    sql = openPool(database.url, 'admin');
    repeater = await startRepeater({ DATABASE_URL: database.url });
    proxy = await startHttpProxy(repeater.address);
    site = await createSite();
    browser = await launchBrowser();
  });

  after(async () => {
    await browser.close();
    await site.close();
    await proxy.close();
    await repeater.kill('SIGTERM');
    await sql.end();
    await database.drop();
  });

  beforeEach(async () => {
    const context = await browser.newContext();
    page = await context.newPage();
    troubles = [];
    page.on('pageerror', (error) => troubles.push(error.message));
    page.on('requestfailed', (request) => troubles.push(`${request.url()}: ${request.failure()?.errorText}`));
    page.on('request', (request) => {
      const ours = [proxy.url, site.url].some((url) => request.url().startsWith(url));
      if (!ours) troubles.push(`a call to ${request.url()}`);
    });
  });

  const calls = `(sdk, userId, properties) => {
    sdk.identify(userId, { traits: properties });
    sdk.page('Docs', 'Home', properties);
    sdk.track('Order "Completed"', properties);
    sdk.group('0', properties);
    sdk.alias(userId, 'before');
  }`;

  /** Compares what passed with what is stored, and the parts that a caller gave. */
  async function compare(userId: string, from: number): Promise<void> {
    const kept = await untilStored(userId, 5);
    const sent = proxy.passed.slice(from).flatMap(({ events }) => events);
    const byId = new Map(sent.map((event) => [event['messageId'], event]));
    assert.deepEqual(
      new Set(kept.map(({ type }) => type)),
      new Set(['identify', 'page', 'track', 'group', 'alias']),
    );
    for (const { context, ...event } of kept) {
      const { ip, ...others } = context as Json;
      assert.equal(ip, '127.0.0.1', 'added, since browsers do not know it');
      const { writeKey: _key, ...original } = byId.get(event['messageId']) as Json;
      assert.deepEqual({ ...event, context: others }, original);
    }
    const track = kept.find(({ type }) => type === 'track');
    assert.deepEqual(track?.['properties'], properties);
    assert.deepEqual(troubles, [], 'no error, and no call to another host');
  }

  test('analytics.js from this program, by its snippet: loads, sends as called, calls nobody else', async () => {
    const from = proxy.passed.length;
    await page.goto(`${site.url}/snippet`);
    await page.evaluate(`(${calls})(analytics, 'snippet user', ${JSON.stringify(properties)})`);
    await compare('snippet user', from);
    assert.ok(proxy.passed.slice(from).some(({ path }) => path === '/v1/t'));
  });

  test('@segment/analytics-next from its package, one request an event: lost and refused answers, stored once', async () => {
    await page.goto(`${site.url}/package`);
    proxy.accidents = [null, 'lose', 'refuse', 'delay'];
    await page.evaluate(`(async () => {
      const sdk = AnalyticsNext.AnalyticsBrowser.load({ writeKey: '${writeKey}', cdnURL: '${proxy.url}' });
      await sdk.identify('package user');
      for (let seq = 0; seq < ${count}; seq++) sdk.track('Counted', { seq });
    })()`);
    const kept = await untilStored('package user', count + 1);
    assert.deepEqual(seqs(kept), all);
    assert.deepEqual(proxy.accidents, []);
  });

  test('@segment/analytics-next in batches: the page is left while events are on their way', async () => {
    await page.goto(`${site.url}/package`);
    await page.evaluate(`(async () => {
      const deliveryStrategy = { strategy: 'batching', config: { size: 5, timeout: 60000 } };
      const sdk = AnalyticsNext.AnalyticsBrowser.load(
        { writeKey: '${writeKey}', cdnURL: '${proxy.url}' },
        { integrations: { 'Segment.io': { deliveryStrategy } } },
      );
      await sdk.identify('batch user');
      await Promise.all(Array.from({ length: ${count} }, (_, seq) => sdk.track('Counted', { seq })));
    })()`);
    await page.goto(`${site.url}/elsewhere`);
    const kept = await untilStored('batch user', count + 1);
    assert.deepEqual(seqs(kept), all);
    assert.ok(proxy.passed.some(({ path, events }) => path === '/v1/b' && events.length > 1));
  });

  test('analytics.js by its snippet: the page is left while events wait to be sent again; the next page does, stored once', async () => {
    await page.goto(`${site.url}/snippet`);
    const from = proxy.passed.length;
    const arrived = () => seqs(proxy.passed.slice(from).flatMap(({ events }) => events));
    const calls = count + 2;
    proxy.accidents = Array.from({ length: 2 * calls }, (_, index) => (index % 2 === 0 ? 'lose' : 'refuse'));
    await page.evaluate(`analytics.identify('leaving user');
      for (let seq = 0; seq < ${count}; seq++) analytics.track('Counted', { seq });`);
    await until('all have failed', () => proxy.accidents.length <= calls);
    await page.goto(`${site.url}/snippet?next`);
    proxy.accidents = [];
    // Both pages are users' events too.
    await until('all are stored', async () => seqs(await stored('leaving user')).length >= count);
    await until('what was stored without an answer came again', () => arrived().length > count);
    assert.deepEqual(seqs(await stored('leaving user')), all);
  });

  test('@rudderstack/analytics-js: loads its configuration here, sends as called', async () => {
    const from = proxy.passed.length;
    await page.goto(`${site.url}/rudder`);
    await page.waitForFunction('window.rudder');
    await page.evaluate(
      `rudder.load('${writeKey}', '${proxy.url}', { configUrl: '${proxy.url}', lockIntegrationsVersion: false })`,
    );
    await page.evaluate(`(${calls})(rudder, 'rudder user', ${JSON.stringify(properties)})`);
    await compare('rudder user', from);
  });

  test('@rudderstack/analytics-js: lost, refused and late answers, stored once', async () => {
    await page.goto(`${site.url}/rudder`);
    await page.waitForFunction('window.rudder');
    proxy.accidents = [null, 'lose', 'refuse', 'delay'];
    await page.evaluate(`(() => {
      rudder.load('${writeKey}', '${proxy.url}', { configUrl: '${proxy.url}' });
      rudder.identify('rudder again');
      for (let seq = 0; seq < ${count}; seq++) rudder.track('Counted', { seq });
    })()`);
    const kept = await untilStored('rudder again', count + 1);
    assert.deepEqual(seqs(kept), all);
    assert.deepEqual(proxy.accidents, []);
  });
});
