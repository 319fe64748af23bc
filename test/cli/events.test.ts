/** `repeater events export`: whole or not at all, and in constant memory however slow the reader is. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { KeptStream, type Route, run, startStandIn } from './stand-in.ts';

const line = `${JSON.stringify({ position: 1, event: { text: 'größe 日本'.repeat(50) } })}\n`;

async function serve(context: TestContext, route: Route) {
  const standIn = await startStandIn({ 'GET /admin/events/export': route });
  context.after(() => standIn.close());
  return standIn;
}

async function folder(context: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'repeater-cli-'));
  context.after(() => rm(path, { recursive: true }));
  return path;
}

test('stdout gets the lines as they are; the selection is passed on', async (context) => {
  const standIn = await serve(context, (_request, response) => void response.end(line.repeat(1000)));
  const selection = [
    '--from',
    '2026-01-01T00:00Z',
    '--to',
    '2026-02-01T00:00Z',
    '--event',
    'Order Completed',
    '--user',
    'u1',
  ];
  const { code, stdout, stderr } = await run(['events', 'export', ...selection], { standIn });
  assert.equal(code, 0);
  assert.ok(stdout === line.repeat(1000));
  assert.equal(stderr, '');
  assert.deepEqual(Object.fromEntries(standIn.seen[0]?.query ?? []), {
    from: '2026-01-01T00:00:00.000Z',
    to: '2026-02-01T00:00:00.000Z',
    events: 'Order Completed',
    userIds: 'u1',
    format: 'ndjson',
  });
});

test('a file appears when it is complete, with progress on stderr', async (context) => {
  const path = await folder(context);
  const standIn = await serve(context, (_request, response) => void response.end(line.repeat(1000)));
  const file = join(path, 'events.ndjson');
  const { code, stdout, stderr } = await run(['events', 'export', '--output', file], {
    standIn,
    columns: 80,
  });
  assert.equal(code, 0);
  assert.equal(stdout, '');
  assert.ok((await readFile(file, 'utf8')) === line.repeat(1000));
  assert.match(stderr, /1,000 events {2}\d+ kB {2}[\d,]+\/s\n$/);
  assert.deepEqual(await readdir(path), ['events.ndjson']);
});

test('a connection that breaks leaves no file and says so', async (context) => {
  const path = await folder(context);
  const standIn = await serve(context, (_request, response) => {
    response.write(line.repeat(10));
    setTimeout(() => response.destroy(), 50);
  });
  const { code, stderr } = await run(['events', 'export', '--output', join(path, 'events.ndjson')], {
    standIn,
  });
  assert.equal(code, 1);
  assert.match(stderr, /The connection broke after 10 events \(.*\)\. The export is not complete\./);
  assert.deepEqual(await readdir(path), []);
});

test('a folder that is not there', async (context) => {
  const standIn = await serve(context, (_request, response) => void response.end(line.repeat(10)));
  const { code, stderr } = await run(['events', 'export', '--output', '/nonexistent/x'], { standIn });
  assert.equal(code, 1);
  assert.match(stderr, /\/nonexistent\/x cannot be written \(ENOENT\)/);
});

test('a slow reader holds the server back: nothing piles up here', async (context) => {
  const chunk = line.repeat(200);
  let sent = 0;
  const standIn = await serve(context, async (_request, response) => {
    const closed = new AbortController();
    response.once('close', () => closed.abort());
    while (!response.destroyed && sent < 200_000_000) {
      sent += chunk.length;
      if (!response.write(chunk))
        await once(response, 'drain', { signal: closed.signal }).catch(() => undefined);
    }
  });
  const stdout = new StalledStream();
  const running = run(['events', 'export'], { standIn, stdout });
  await sleep(500);
  const held = sent;
  await sleep(500);
  assert.equal(sent, held, 'the server was held back');
  assert.ok(held < 20_000_000, `${held} bytes were taken for a reader that took one chunk`);
  stdout.destroy(Object.assign(new Error('closed'), { code: 'EPIPE' }));
  assert.equal((await running).code, 0, 'a reader that leaves is no error');
});

/** Takes one chunk and never asks for another. */
class StalledStream extends KeptStream {
  override _write(): void {}
}
