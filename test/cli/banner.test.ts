/** What the terminal shows when the server is ready: pasted as it stands, the curl line stores an event. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { type BannerFacts, curlLine, renderBanner, withoutPassword } from '../../src/cli/banner.ts';
import { startStandIn } from './stand-in.ts';

const facts: BannerFacts = {
  address: 'http://127.0.0.1:8080',
  writeKey: 'w'.repeat(32),
  adminToken: `rpt_${'t'.repeat(43)}`,
  adminTokenNote: 'as set in ADMIN_TOKEN',
  databaseUrl: 'postgres://repeater:secret@127.0.0.1:5433/repeater',
  took: '0.9 s',
};
const plain = { bold: (text: string) => text, dim: (text: string) => text };

test('shows address, write key, token, connection string and a curl line, in 80 columns', () => {
  const lines = renderBanner(facts, plain);
  const text = lines.join('\n');
  for (const value of [facts.address, facts.writeKey, facts.adminToken, facts.databaseUrl])
    assert.ok(text.includes(value ?? '?'));
  assert.match(text, /127\.0\.0\.1:8080\/docs/);
  for (const line of lines)
    if (!line.includes('curl ') && !line.includes('postgres://')) assert.ok(line.length <= 80, line);
});

test('a token that may not be shown is not', () => {
  const text = renderBanner({ ...facts, adminToken: null }, plain).join('\n');
  assert.match(text, /Admin token {2}as set in ADMIN_TOKEN/);
});

test('a connection string loses its password and nothing else', () => {
  assert.equal(
    withoutPassword('postgres://me:p%40ss@db:5432/x?sslmode=require'),
    'postgres://me@db:5432/x?sslmode=require',
  );
  assert.equal(withoutPassword('postgres://me@a:1,b:2/x'), 'postgres://me@a:1,b:2/x');
  assert.equal(
    withoutPassword('postgres://db/x?user=me&password=p&a=1'),
    'postgres://db/x?user=me&password=…&a=1',
  );
});

test('the curl line works in a shell, whatever the write key holds', async (context) => {
  const standIn = await startStandIn({ 'POST /v1/track': () => ({ json: { success: true } }) });
  context.after(() => standIn.close());
  for (const writeKey of ['abc-_123', `it's "$HOME" & more`]) {
    const { stdout } = await promisify(execFile)('sh', ['-c', `${curlLine(standIn.url, writeKey)} -s`]);
    assert.deepEqual(JSON.parse(stdout), { success: true });
    const request = standIn.seen.at(-1);
    assert.equal(request?.headers.authorization, `Basic ${Buffer.from(`${writeKey}:`).toString('base64')}`);
    assert.deepEqual(request?.body, { userId: 'u1', event: 'Order Completed', properties: { total: 42.5 } });
  }
});
