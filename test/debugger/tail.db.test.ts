import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openPool } from '../../src/db/client.ts';
import { acceptedEvent, append } from '../support/accepted-events.ts';
import { type AdminApp, createAdminApp } from '../support/admin-app.ts';

let app: AdminApp;
let head = 0;
before(async () => {
  app = await createAdminApp();
  await app.call('POST', '/admin/sources', { name: 'web' });
  await app.call('POST', '/admin/sources', { name: 'app' });
  head = await append(
    app.sql,
    Array.from({ length: 1200 }, () => acceptedEvent()),
  );
});
after(async () => app.close());

const add = async (count: number, parts = {}) => {
  head = await append(
    app.sql,
    Array.from({ length: count }, () => acceptedEvent(parts)),
  );
};

/** A viewer as a browser is one: reads messages until it has seen enough. */
async function view(query = '', headers: Record<string, string> = {}) {
  const leaving = new AbortController();
  const response = await app.fetch(`/admin/events/stream${query}`, { headers, signal: leaving.signal });
  assert.equal(response.status, 200);
  assert.match(response.headers.get('content-type') ?? '', /^text\/event-stream/);
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const decoder = new TextDecoder();
  let text = '';
  return {
    ids: (): number[] => [...text.matchAll(/^id: (\d+)$/gm)].map((match) => Number(match[1])),
    text: () => text,
    /** Reads until the condition holds; false when the stream ended first. */
    async until(enough: (text: string) => boolean): Promise<boolean> {
      while (!enough(text)) {
        const { value, done } = await reader.read();
        if (done) return false;
        text += decoder.decode(value, { stream: true });
      }
      return true;
    },
    async leave() {
      await reader.cancel();
      leaving.abort();
    },
  };
}
const holds = (position: number) => (text: string) => text.includes(`id: ${position}\n`);
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);

test('a viewer sees what is accepted from now on, whole, within a moment', { timeout: 20_000 }, async () => {
  const viewer = await view();
  // The first read opens the view; from then on nothing is missed.
  await viewer.until((text) => text.includes('retry:'));
  const opened = viewer.until(holds(head + 3));
  await sleep(150);
  const started = Date.now();
  await add(3, { event: 'Line\nbreak "and" ✓' });
  await opened;
  assert.ok(Date.now() - started < 1000, `${Date.now() - started} ms`);
  assert.deepEqual(viewer.ids(), range(head - 2, head));
  const data = /^data: (.*)$/m.exec(viewer.text())?.[1] ?? '';
  const { position, name, event } = JSON.parse(data) as {
    position: number;
    name: string;
    event: { event: string };
  };
  assert.deepEqual([position, name, event.event], [head - 2, 'Line\nbreak "and" ✓', 'Line\nbreak "and" ✓']);
  await viewer.leave();
});

test(
  'one that resumes gets what it missed and then what is new, each once, while events keep coming',
  { timeout: 20_000 },
  async () => {
    const writing = new AbortController();
    const writer = (async () => {
      while (!writing.signal.aborted) {
        await add(20);
        await sleep(10);
      }
    })();
    const other = await view();
    await other.until((text) => text.includes('id:'));
    const viewers = [other];
    // One after the other, so that they join at every point between two reads of the log.
    for (let index = 0; index < 12; index++) {
      viewers.push(await view('', { 'last-event-id': '500' }));
      void viewers.at(-1)?.until(() => false);
      await sleep(17);
    }
    await other.until(holds(head));
    writing.abort();
    await writer;
    await other.until(holds(head));
    await sleep(200);
    for (const viewer of viewers) {
      const seen = viewer.ids();
      assert.deepEqual(seen, range(viewer === other ? (seen[0] as number) : 501, head));
      await viewer.leave();
    }
  },
);

test('filters hold for what was missed and for what is new', { timeout: 20_000 }, async () => {
  const from = head;
  await add(2, { sourceId: 2, type: 'page', event: null });
  await add(2, { event: 'Other' });
  const viewer = await view(`?source=app&type=page&after=${from}`);
  await viewer.until(holds(from + 2));
  await add(1, { sourceId: 1, type: 'page', event: null });
  await add(1, { sourceId: 2, type: 'page', event: null });
  await viewer.until(holds(head));
  assert.deepEqual(viewer.ids(), [from + 1, from + 2, head]);
  await viewer.leave();
  for (const query of ['?source=nowhere', '?type=click', '?after=x', '?filter=x']) {
    assert.equal((await app.fetch(`/admin/events/stream${query}`)).status, 400, query);
  }
});

test(
  'one that does not read loses the oldest and is told how many; others lose nothing',
  { timeout: 20_000 },
  async () => {
    const [slow, quick] = [await view(), await view()];
    const from = head;
    const text = 'x'.repeat(20_000);
    const reading = quick.until((seen) => new RegExp(`^id: ${from + 300}$`, 'm').test(seen));
    await slow.until((seen) => seen.includes('retry:'));
    await sleep(150);
    for (let round = 0; round < 30; round++) {
      await add(10, { properties: { text } });
      await sleep(20);
    }
    await reading;
    assert.deepEqual(quick.ids(), range(from + 1, from + 300));
    await slow.until(holds(from + 300));
    const ids = slow.ids();
    const lost = [...slow.text().matchAll(/^event: dropped\ndata: \{"count":(\d+)\}$/gm)];
    const dropped = lost.reduce((sum, match) => sum + Number(match[1]), 0);
    assert.ok(dropped > 200, `${dropped} dropped`);
    assert.equal(ids.length + dropped, 300);
    assert.ok(ids.every((id, index) => index === 0 || id > (ids[index - 1] as number)));
    await slow.leave();
    await quick.leave();
  },
);

test('without viewers nothing is read; closing ends every view', { timeout: 20_000 }, async () => {
  await sleep(250);
  // On a connection of its own: each connection shows only its last query.
  const watcher = openPool(app.url, 'admin', { max: 1 });
  const calls = async () => {
    const rows = await watcher`select max(query_start)::text as at from pg_stat_activity
      where datname = current_database() and query like '%unnest%' and query not like '%pg_stat%'`;
    return rows[0]?.['at'] as string | null;
  };
  const last = await calls();
  await sleep(300);
  assert.equal(await calls(), last);
  await watcher.end();

  const viewer = await view();
  await viewer.until((text) => text.includes('retry:'));
  const ended = viewer.until(() => false);
  await sleep(150);
  app.tail.close();
  assert.equal(await ended, false);
});
