/**
 * The secrets of an installation: taken from the environment, else made once and kept. With the embedded
 * database they are kept in DATA_DIR/repeater.json; with DATABASE_URL nothing touches the disk and they are
 * kept in repeater.settings, where `insert … on conflict do nothing` and reading back makes any number of
 * instances that start at once agree. What can be lost for good (the key) is kept before it is used.
 */
import { randomBytes } from 'node:crypto';
import { createSource, listSources } from '../admin/sources.ts';
import { checkSecretKey } from '../admin/secret-key.ts';
import type { Config } from '../config/env.ts';
import { createSealer, SealError, type Sealer } from '../config/secrets.ts';
import type { Sql } from '../db/client.ts';
import { AppError } from '../lib/errors.ts';
import { newAdminToken, newWriteKey } from '../lib/ids.ts';
import { installationFilePath, readInstallationFile, writeInstallationFile } from './installation-file.ts';

export interface Installation {
  /** Null only for ROLE=worker without ADMIN_TOKEN: a worker has no admin API, and nobody would see the token. */
  readonly adminToken: string | null;
  /** What `createSealer` takes. */
  readonly secretKey: string;
  /** Of that key; making one costs a twentieth of a second. */
  readonly sealer: Sealer;
  /** A valid key of the first source; null for ROLE=worker, or when its keys have all expired. */
  readonly writeKey: string | null;
  /** Whether the token may be shown: made by us, and now or on a machine that keeps it readable anyway. */
  readonly generated: { readonly adminToken: boolean; readonly justNow: boolean };
  /** What the admin should know, for the log. */
  readonly warnings: readonly string[];
}

type Given = Pick<Config, 'databaseUrl' | 'dataDir' | 'adminToken' | 'secretKey' | 'writeKey' | 'role'>;

/** Where generated values are kept. `keep` returns what counts: an instance that was faster wins. */
interface Keeper {
  read(name: KeptName): Promise<string | null>;
  keep(name: KeptName, value: string): Promise<string>;
}

type KeptName = 'adminToken' | 'secretKey' | 'writeKey';

/**
 * Finds or makes the installation's secrets and its first source.
 * @throws Error with advice when SECRET_KEY is not the one this database was sealed with, or is missing.
 */
export async function resolveInstallation(config: Given, sql: Sql): Promise<Installation> {
  const embedded = config.databaseUrl === null;
  const keeper = embedded ? keepInFile(config.dataDir) : keepInTable(sql);
  const warnings: string[] = [];

  const secretKey = await resolveSecretKey(config, sql, keeper);
  if (!embedded && config.secretKey === null) {
    warnings.push(
      'SECRET_KEY is not set. The key that seals stored secrets is kept in the database beside them, which is ' +
        'for trying out only: set SECRET_KEY to 32 random characters.',
    );
  }
  const sealer = createSealer(secretKey);
  await checkSecretKey(sql, sealer);

  if (config.role === 'worker') {
    const generated = { adminToken: false, justNow: false };
    return { adminToken: config.adminToken, secretKey, sealer, writeKey: null, generated, warnings };
  }
  const kept = embedded ? keeper : sealed(keeper, sql, sealer);
  const { adminToken, justNow } = await resolveAdminToken(config, kept);
  const writeKey = await resolveWriteKey(config, sql, { keeper: embedded ? keeper : null, warnings });
  const generated = { adminToken: config.adminToken === null, justNow };
  return { adminToken, secretKey, sealer, writeKey, generated, warnings };
}

/** With a key of our own from before, both: what the older sealed still opens, and is sealed anew with the first. */
async function resolveSecretKey(config: Given, sql: Sql, keeper: Keeper): Promise<string> {
  const kept = await keeper.read('secretKey');
  if (config.secretKey !== null) {
    const first = config.secretKey.split(',').map((key) => key.trim());
    return kept === null || first.includes(kept) ? config.secretKey : `${config.secretKey},${kept}`;
  }
  if (kept !== null) return kept;
  const [checked] = await sql`select from repeater.settings where name = 'secret_key_check'`;
  if (checked) {
    const place = config.databaseUrl === null ? ` (or restore ${installationFilePath(config.dataDir)})` : '';
    throw new Error(
      `SECRET_KEY is missing: the secrets stored in this database were sealed with one. Start with that key${place}.`,
    );
  }
  return keeper.keep('secretKey', randomBytes(32).toString('base64url'));
}

async function resolveAdminToken(
  config: Given,
  keeper: Keeper,
): Promise<{ adminToken: string; justNow: boolean }> {
  if (config.adminToken !== null) return { adminToken: config.adminToken, justNow: false };
  const kept = await keeper.read('adminToken');
  if (kept !== null) return { adminToken: kept, justNow: false };
  const made = newAdminToken();
  const adminToken = await keeper.keep('adminToken', made);
  return { adminToken, justNow: adminToken === made };
}

async function resolveWriteKey(
  config: Given,
  sql: Sql,
  { keeper, warnings }: { keeper: Keeper | null; warnings: string[] },
): Promise<string | null> {
  const page = { limit: 1 };
  let [first] = (await listSources(sql, page)).data;
  if (!first) {
    const kept = await keeper?.read('writeKey');
    const key = config.writeKey ?? kept ?? (await keeper?.keep('writeKey', newWriteKey())) ?? newWriteKey();
    try {
      await createSource(sql, { name: 'Default' }, key);
    } catch (error) {
      // Another instance made it in this moment.
      if (!(error instanceof AppError && error.code === 'conflict')) throw error;
    }
    [first] = (await listSources(sql, page)).data;
  }
  if (config.writeKey === null) return first?.writeKey ?? null;

  await sql`
    insert into repeater.write_keys (key, source_id)
    select ${config.writeKey}, min(id) from repeater.sources on conflict do nothing`;
  const [usable] = await sql`
    select from repeater.write_keys where key = ${config.writeKey} and (expires_at is null or expires_at > now())`;
  if (!usable) warnings.push('WRITE_KEY has expired: events sent with it are refused.');
  return config.writeKey;
}

function keepInFile(dataDir: string): Keeper {
  return {
    async read(name) {
      return (await readInstallationFile(dataDir))[name] ?? null;
    },
    async keep(name, value) {
      // Nobody else writes: the embedded database belongs to one process at a time.
      await writeInstallationFile(dataDir, { ...(await readInstallationFile(dataDir)), [name]: value });
      return value;
    },
  };
}

const rowNames = { adminToken: 'admin_token', secretKey: 'secret_key', writeKey: 'write_key' } as const;

function keepInTable(sql: Sql): Keeper {
  const read = async (name: KeptName) => {
    const [row] = await sql<{ value: string }[]>`
      select value from repeater.settings where name = ${rowNames[name]}`;
    return row?.value ?? null;
  };
  return {
    read,
    async keep(name, value) {
      await sql`
        insert into repeater.settings (name, value) values (${rowNames[name]}, ${value}) on conflict do nothing`;
      return (await read(name)) ?? value;
    },
  };
}

/** The same, with values sealed; after a change of SECRET_KEY they are sealed anew. */
function sealed(keeper: Keeper, sql: Sql, sealer: Sealer): Keeper {
  const open = (name: KeptName, value: string) => {
    try {
      return sealer.open(value, `settings:${rowNames[name]}`);
    } catch (cause) {
      if (!(cause instanceof SealError)) throw cause;
      throw new Error(
        `SECRET_KEY does not open the stored ${rowNames[name]}. Set ADMIN_TOKEN to choose another.`,
        {
          cause,
        },
      );
    }
  };
  const seal = (name: KeptName, plain: string) => sealer.seal(plain, `settings:${rowNames[name]}`);
  return {
    async read(name) {
      const stored = await keeper.read(name);
      if (stored === null) return null;
      const plain = open(name, stored);
      if (!sealer.isCurrent(stored)) {
        await sql`
          update repeater.settings set value = ${seal(name, plain)}
          where name = ${rowNames[name]} and value = ${stored}`;
      }
      return plain;
    },
    async keep(name, value) {
      return open(name, await keeper.keep(name, seal(name, value)));
    },
  };
}
