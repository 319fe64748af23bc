/** Whatever is logged, no secret and no event gets into a line. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { createLog, type LogOptions } from '../../src/lib/log.ts';

function keep(options: Partial<LogOptions> = {}) {
  const lines: string[] = [];
  const log = createLog({ level: 'debug', ...options, destination: { write: (line) => lines.push(line) } });
  return { log, lines };
}

test('a line is JSON with time, level, message and facts', () => {
  const { log, lines } = keep();
  log.child({ feedId: 3 }).info({ delivered: 12, batch: 100 }, 'slice');
  const { time, ...line } = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
  assert.deepEqual(line, { level: 'info', feedId: 3, delivered: 12, batch: 100, msg: 'slice' });
  assert.match(String(time), /^\d{4}-\d\d-\d\dT.*Z$/);
});

test('secrets and payloads are dropped at any depth, in children, errors and URLs', () => {
  const { log, lines } = keep();
  const error = Object.assign(
    new Error('cannot reach postgres://me:CANARY@db:5432/x', { cause: new Error('cause') }),
    {
      code: '23505',
      detail: 'Key (message_id)=(CANARY) already exists.',
      parameters: ['CANARY'],
      query: 'insert CANARY',
    },
  );
  const event = { type: 'track', properties: { note: 'CANARY' } };
  const facts = {
    headers: {
      authorization: 'Bearer CANARY',
      Cookie: 'a=CANARY',
      'set-cookie': ['CANARY'],
      'proxy-authorization': 'CANARY',
    },
    config: {
      adminToken: 'CANARY',
      SECRET_KEY: 'CANARY',
      secretKey: 'CANARY',
      writeKey: 'CANARY',
      databaseUrl: 'CANARY',
    },
    destination: {
      settings: { url: 'CANARY' },
      signingSecret: 'CANARY',
      api_key: 'CANARY',
      password: 'CANARY',
    },
    deep: [{ event, payload: 'CANARY', events: [event], body: 'CANARY', batch: [event] }],
    url: 'https://user:CANARY@example.com/hook',
    err: error,
    nested: { error },
  };
  log.child({ token: 'CANARY' }).warn(facts, 'https://user:CANARY@example.com');
  log.error(error);
  assert.equal(lines.length, 2);
  for (const line of lines) assert.doesNotMatch(line, /CANARY/);
  const line = JSON.parse(lines[0] ?? '') as { err: Record<string, unknown>; url: string };
  assert.equal(line.err['code'], '23505');
  assert.match(String(line.err['message']), /postgres:\/\/\*\*\*@db:5432/);
  assert.match(String(line.err['stack']), /log\.test\.ts/);
  assert.equal((line.err['cause'] as { message: string }).message, 'cause');
  assert.equal(line.url, 'https://***@example.com/hook');
});

test('what only looks like a secret stays', () => {
  const { log, lines } = keep();
  const facts = {
    userKey: 'u:1',
    jobKey: '3:4',
    event: 'Order Completed',
    body: 12,
    tokens: 5,
    hasSecret: true,
    monkey: 'x',
  };
  log.info(facts);
  const { time: _time, level: _level, ...line } = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
  assert.deepEqual(line, facts);
});

test('depth is bounded, so a cycle cannot hang it', () => {
  const { log, lines } = keep();
  const cycle: Record<string, unknown> = {};
  cycle['self'] = cycle;
  log.info({ cycle });
  assert.match(lines[0] ?? '', /\[deep\]/);
});

test('for a person: short lines, nothing that drives the terminal', () => {
  const { log, lines } = keep({ pretty: true });
  log.warn({ address: 'http://127.0.0.1', text: 'a\u001b[2Jb\n' }, 'look\u001b[31m here');
  log.error({ err: new Error('broken\u001b[2J') }, 'failed');
  assert.match(
    lines[0] ?? '',
    /^\d\d:\d\d:\d\d WARN look here address="http:\/\/127\.0\.0\.1" text="a\\u001b\[2Jb\\n"\n$/,
  );
  assert.match(lines[1] ?? '', /^\d\d:\d\d:\d\d ERROR failed\n {4}Error: broken\n {4} +at /);
  assert.ok(!lines.join('').includes('\u001b'));
});

test('lines written just before the process ends arrive', () => {
  const program = `
    const { createLog } = await import(${JSON.stringify(new URL('../../src/lib/log.ts', import.meta.url).href)});
    const log = createLog({ level: 'info' });
    for (let n = 0; n < 1000; n++) log.info({ n }, 'line');
    process.exit(0);`;
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
  });
  assert.equal(stdout.trimEnd().split('\n').length, 1000);
});
