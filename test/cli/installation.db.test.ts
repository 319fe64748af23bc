/** The installation's secrets: given, or made once and kept, on real Postgres and on disk. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { resolveInstallation } from '../../src/cli/installation.ts';
import { openPool, type Sql } from '../../src/db/client.ts';
import { createTestDatabase } from '../support/database.ts';

const database = await createTestDatabase();
const sql = openPool(database.url, 'admin', { max: 1 });
let dataDir = await mkdtemp(join(tmpdir(), 'repeater-installation-'));
after(async () => {
  await sql.end({ timeout: 5 });
  await database.drop();
  await rm(dataDir, { recursive: true });
});
beforeEach(async () => {
  await sql`truncate repeater.settings, repeater.write_keys, repeater.sources restart identity cascade`;
  await rm(dataDir, { recursive: true });
  dataDir = await mkdtemp(join(tmpdir(), 'repeater-installation-'));
});

const key = (letter: string) => letter.repeat(20);

/** All but the sealer, which is made anew of the key each time. */
async function resolve(given: Partial<Parameters<typeof resolveInstallation>[0]> = {}, on: Sql = sql) {
  const nothing = {
    databaseUrl: null,
    dataDir,
    adminToken: null,
    secretKey: null,
    writeKey: null,
    role: 'all',
  } as const;
  const { sealer: _sealer, ...installation } = await resolveInstallation({ ...nothing, ...given }, on);
  return installation;
}

const external = { databaseUrl: 'postgres://elsewhere/repeater' };

test('embedded: made once, kept in a file of the owner, the same on every start', async () => {
  const first = await resolve();
  const { adminToken, secretKey, writeKey } = first;
  assert.match(adminToken ?? '', /^rpt_.{43}$/);
  assert.equal(writeKey?.length, 32);
  assert.deepEqual(JSON.parse(await readFile(join(dataDir, 'repeater.json'), 'utf8')), {
    adminToken,
    secretKey,
    writeKey,
  });
  assert.deepEqual(first.generated, { adminToken: true, justNow: true });
  assert.deepEqual(first.warnings, []);
  assert.deepEqual(await resolve(), { ...first, generated: { adminToken: true, justNow: false } });
  assert.deepEqual(await readdir(dataDir), ['repeater.json']);
  const rows =
    await sql`select s.name, k.key from repeater.sources s join repeater.write_keys k on k.source_id = s.id`;
  assert.deepEqual([...rows], [{ name: 'Default', key: writeKey }]);
});

test('embedded: values given are used and not written down', async () => {
  const given = { adminToken: 'given-token', secretKey: key('a'), writeKey: 'given-write-key' };
  const installation = await resolve(given);
  assert.deepEqual({ ...installation, ...given }, installation);
  assert.deepEqual(installation.generated, { adminToken: false, justNow: false });
  assert.deepEqual(await readdir(dataDir), []);
});

test('embedded: the file is gone, the database is not: says what is missing', async () => {
  await resolve();
  await rm(join(dataDir, 'repeater.json'));
  await assert.rejects(resolve(), /SECRET_KEY is missing.*restore .*repeater\.json/);
});

test('DATABASE_URL: nothing on disk, kept in the database, the token not in plain text', async () => {
  const first = await resolve(external);
  assert.deepEqual(await readdir(dataDir), []);
  assert.deepEqual(first.generated, { adminToken: true, justNow: true });
  assert.match(first.warnings.join(), /SECRET_KEY is not set.*for trying out only/);
  const second = await resolve(external);
  assert.deepEqual({ ...second, generated: first.generated }, first);
  assert.equal(second.generated.justNow, false);
  const settings = JSON.stringify(await sql`select * from repeater.settings`);
  assert.ok(!settings.includes(first.adminToken ?? '?'));
});

test('ten instances that start at once agree, and one of them made it', async () => {
  const pools = Array.from({ length: 10 }, () => openPool(database.url, 'admin', { max: 1 }));
  try {
    const installations = await Promise.all(pools.map((pool) => resolve(external, pool)));
    const different = (read: (one: (typeof installations)[number]) => unknown) =>
      new Set(installations.map(read)).size;
    assert.equal(
      different(({ adminToken }) => adminToken),
      1,
    );
    assert.equal(
      different(({ secretKey }) => secretKey),
      1,
    );
    assert.equal(
      different(({ writeKey }) => writeKey),
      1,
    );
    assert.equal(installations.filter(({ generated }) => generated.justNow).length, 1);
    const [counts] =
      await sql`select (select count(*) from repeater.sources) as sources, (select count(*) from repeater.write_keys) as keys`;
    assert.deepEqual(counts, { sources: 1, keys: 1 });
  } finally {
    await Promise.all(pools.map((pool) => pool.end({ timeout: 5 })));
  }
});

test('a wrong SECRET_KEY stops the start, and so does none', async () => {
  await resolve({ ...external, secretKey: key('a') });
  await assert.rejects(resolve({ ...external, secretKey: key('b') }), /SECRET_KEY is not the key/);
  await assert.rejects(
    resolve(external),
    /SECRET_KEY is missing: the secrets stored in this database were sealed with one/,
  );
  await resolve({ ...external, secretKey: key('a') });
});

test('a key is changed by putting the new one in front; the token stays', async () => {
  const { adminToken } = await resolve({ ...external, secretKey: key('a') });
  assert.equal((await resolve({ ...external, secretKey: `${key('b')},${key('a')}` })).adminToken, adminToken);
  assert.equal((await resolve({ ...external, secretKey: key('b') })).adminToken, adminToken);
  await assert.rejects(resolve({ ...external, secretKey: key('a') }), /SECRET_KEY is not the key/);
});

test('a key of our own gives way to SECRET_KEY, and what it sealed stays open', async () => {
  for (const mode of [external, {}]) {
    await sql`truncate repeater.settings`;
    const before = await resolve(mode);
    const given = await resolve({ ...mode, secretKey: key('c') });
    assert.equal(given.adminToken, before.adminToken);
    assert.equal(given.secretKey, `${key('c')},${before.secretKey}`);
    assert.deepEqual(given.warnings, []);
    await assert.rejects(resolve(mode), /SECRET_KEY is not the key/);
    await assert.rejects(resolve({ ...mode, secretKey: key('d') }), /SECRET_KEY is not the key/);
  }
});

test('WRITE_KEY: of the first source, added when unknown, not revived when expired', async () => {
  assert.equal((await resolve({ writeKey: 'first-key' })).writeKey, 'first-key');
  assert.equal((await resolve({ writeKey: 'second-key' })).writeKey, 'second-key');
  assert.equal((await resolve({ writeKey: 'first-key' })).writeKey, 'first-key');
  const rows = await sql`select source_id, key from repeater.write_keys order by key`;
  assert.deepEqual(
    [...rows],
    [
      { source_id: 1, key: 'first-key' },
      { source_id: 1, key: 'second-key' },
    ],
  );
  await sql`update repeater.write_keys set expires_at = now() - interval '1 hour' where key = 'second-key'`;
  assert.match((await resolve({ writeKey: 'second-key' })).warnings.join(), /WRITE_KEY has expired/);
  assert.equal((await resolve()).writeKey, 'first-key');
});

test('a worker makes no token and no source, and needs the same key', async () => {
  const worker = await resolve({ ...external, role: 'worker', secretKey: key('a') });
  assert.equal(worker.adminToken, null);
  assert.equal(worker.writeKey, null);
  const [counts] = await sql`select count(*) as sources from repeater.sources`;
  assert.deepEqual(counts, { sources: 0 });
  assert.equal((await resolve({ ...external, secretKey: key('a') })).generated.justNow, true);
  await assert.rejects(
    resolve({ ...external, role: 'worker', secretKey: key('b') }),
    /SECRET_KEY is not the key/,
  );
});
