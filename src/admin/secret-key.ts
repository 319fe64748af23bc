/**
 * Makes sure at the start that SECRET_KEY is the one this database was sealed with: a sealed word in
 * repeater.settings either opens or stops the program, before anything is sent or sealed with a wrong key.
 * After a rotation (new key in front of the old) everything is sealed anew with the first key.
 */
import { SealError, type Sealer } from '../config/secrets.ts';
import type { Sql, Transaction } from '../db/client.ts';
import { secretContext } from '../routing/destinations.ts';

const settingName = 'secret_key_check';
const word = 'repeater';
/** Of several processes that start at once, one seals anew. */
const rotationLock = 727_001_004;

/** @throws Error with advice when the key does not fit this database. */
export async function checkSecretKey(sql: Sql, sealer: Sealer): Promise<void> {
  await sql.begin(async (tx) => {
    await tx`select pg_advisory_xact_lock(${rotationLock})`;
    await tx`
      insert into repeater.settings (name, value) values (${settingName}, ${sealer.seal(word, settingName)})
      on conflict do nothing`;
    const [row] = await tx<
      { value: string }[]
    >`select value from repeater.settings where name = ${settingName}`;
    const sealed = row?.value ?? '';
    try {
      sealer.open(sealed, settingName);
    } catch (cause) {
      if (!(cause instanceof SealError)) throw cause;
      throw new Error(
        'SECRET_KEY is not the key that the settings in this database were sealed with. Start with that key; ' +
          'to change it, put the new key in front of the old one, separated by a comma.',
        { cause },
      );
    }
    if (!sealer.isCurrent(sealed)) await sealAnew(tx, sealer);
  });
}

async function sealAnew(tx: Transaction, sealer: Sealer): Promise<void> {
  const rows = await tx<{ id: number; secrets: Record<string, string> }[]>`
    select id, secrets from repeater.destinations order by id for no key update`;
  for (const { id, secrets } of rows) {
    const anew = Object.entries(secrets).map(([field, stored]) => {
      const context = secretContext(id, field);
      const keep = stored.startsWith('env:') || sealer.isCurrent(stored);
      return [field, keep ? stored : sealer.seal(sealer.open(stored, context), context)];
    });
    await tx`
      update repeater.destinations set secrets = ${tx.json(Object.fromEntries(anew) as never)} where id = ${id}`;
  }
  await tx`update repeater.settings set value = ${sealer.seal(word, settingName)} where name = ${settingName}`;
}
