/** The environment: defaults, every mistake at once by name, no secret in a message, and the README's table. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { test } from 'node:test';
import {
  ConfigError,
  environmentVariables,
  loadClientConfig,
  loadConfig,
  readEnvironment,
  unknownVariables,
} from '../../src/config/env.ts';

test('an empty environment starts the embedded database on loopback', () => {
  const config = loadConfig({ environment: {} });
  assert.deepEqual(config, {
    port: 8080,
    host: '127.0.0.1',
    databaseUrl: null,
    dataDir: resolve('data'),
    adminToken: null,
    writeKey: null,
    secretKey: null,
    role: 'all',
    allowPrivateDestinations: false,
    logLevel: 'info',
    dedupHours: 48,
    trustedProxies: 0,
    rateLimitPerKey: null,
  });
  assert.ok(Object.isFrozen(config));
  assert.equal(loadConfig({ environment: {}, isTerminal: true }).logLevel, 'warn');
});

test('with DATABASE_URL it listens everywhere and logs', () => {
  const environment = { DATABASE_URL: 'postgres://a,b/repeater?target_session_attrs=read-write' };
  const config = loadConfig({ environment, isTerminal: true });
  assert.equal(config.host, '0.0.0.0');
  assert.equal(config.logLevel, 'info');
  assert.equal(config.databaseUrl, environment.DATABASE_URL);
});

test('values are read, an empty text is none, options win', () => {
  const environment = {
    PORT: '9000',
    HOST: '::1',
    ROLE: 'WORKER',
    ALLOW_PRIVATE_DESTINATIONS: 'true',
    DEDUP_HOURS: '24',
    TRUSTED_PROXIES: '10.0.0.0/8, ::1',
    RATE_LIMIT_PER_KEY: '500',
    WRITE_KEY: '',
    ADMIN_TOKEN: '  ',
    SECRET_KEY: 'new-key-of-16-ch,old-key-of-16-ch',
    LOG_LEVEL: 'debug',
  };
  const config = loadConfig({ environment, overrides: { PORT: '9001', ROLE: undefined } });
  assert.equal(config.port, 9001);
  assert.equal(config.host, '::1');
  assert.equal(config.role, 'worker');
  assert.equal(config.allowPrivateDestinations, true);
  assert.equal(config.dedupHours, 24);
  assert.deepEqual(config.trustedProxies, ['10.0.0.0/8', '::1']);
  assert.equal(config.rateLimitPerKey, 500);
  assert.equal(loadConfig({ environment: { TRUSTED_PROXIES: '2' } }).trustedProxies, 2);
  assert.equal(config.writeKey, null);
  assert.equal(config.adminToken, null);
  assert.equal(config.secretKey, environment.SECRET_KEY);
});

test('every bad variable is named with what was expected, and no secret is shown', () => {
  const environment = {
    PORT: '80a',
    HOST: 'a b',
    DATABASE_URL: 'mysql://root:hunter2@db/x',
    ADMIN_TOKEN: 'hunter2',
    WRITE_KEY: 'has:colon-hunter2',
    SECRET_KEY: 'long-enough-key-1,hunter2',
    ROLE: 'boss',
    ALLOW_PRIVATE_DESTINATIONS: 'maybe',
    DEDUP_HOURS: '0',
    TRUSTED_PROXIES: '10.0.0.0/33',
    RATE_LIMIT_PER_KEY: '0',
    LOG_LEVEL: 'loud',
  };
  assert.throws(
    () => loadConfig({ environment }),
    (error: ConfigError) => {
      assert.ok(error instanceof ConfigError);
      assert.deepEqual(
        new Set(error.problems.map((problem) => problem.split('=')[0])),
        new Set(Object.keys(environment)),
      );
      assert.match(error.message, /PORT="80a": expected a whole number from 0 to 65535/);
      assert.match(error.message, /ROLE="boss": expected one of all, api, worker/);
      assert.match(error.message, /SECRET_KEY=\(25 characters, not shown\): expected at least 16 characters/);
      assert.doesNotMatch(error.message, /hunter2/);
      return true;
    },
  );
  assert.throws(() => loadConfig({ environment: { PORT: '65536' } }), /from 0 to 65535/);
  for (const proxies of ['nginx', '10.0.0.0/', '10.0.0.0/8/8', '::1/129', '1,,2', '-1'])
    assert.throws(() => loadConfig({ environment: { TRUSTED_PROXIES: proxies } }), /a number of proxies/);
});

test('a command is not stopped by variables of the server, and shows no password of REPEATER_URL', () => {
  const environment = {
    ROLE: 'boss',
    LOG_LEVEL: 'loud',
    REPEATER_URL: 'https://events.example.com/',
    DATA_DIR: '/d',
  };
  assert.deepEqual(loadClientConfig({ environment }), {
    repeaterUrl: 'https://events.example.com',
    port: 8080,
    adminToken: null,
    dataDir: '/d',
  });
  const wrong = { environment: { REPEATER_URL: 'ftp://me:hunter2@x' } };
  assert.throws(
    () => loadClientConfig(wrong),
    (error: Error) => /REPEATER_URL/.test(error.message) && !/hunter2/.test(error.message),
  );
});

test('names that look like ours and are none are found', () => {
  assert.deepEqual(unknownVariables({ REPEATER_PORT: '1', REPEATER_URL: 'x', PORT: '1', HOME: '/' }), [
    'REPEATER_PORT',
  ]);
});

test('references read the environment of this moment; empty is absent', () => {
  process.env['REPEATER_TEST_REFERENCE'] = 'value';
  assert.equal(readEnvironment('REPEATER_TEST_REFERENCE'), 'value');
  process.env['REPEATER_TEST_REFERENCE'] = '';
  assert.equal(readEnvironment('REPEATER_TEST_REFERENCE'), undefined);
  delete process.env['REPEATER_TEST_REFERENCE'];
  assert.equal(readEnvironment('REPEATER_TEST_REFERENCE'), undefined);
});

test("README's table lists exactly these variables", async () => {
  const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
  const table = /\| variable \| default \| meaning \|\n\|[-| ]+\|\n((?:\|.*\n)+)/.exec(readme)?.[1] ?? '';
  const rows = table
    .trimEnd()
    .split('\n')
    .map((row) =>
      row
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  assert.deepEqual(
    rows,
    environmentVariables.map(([name, fallback, meaning]) => [`\`${name}\``, fallback, meaning]),
  );
});
