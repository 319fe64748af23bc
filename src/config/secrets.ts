/**
 * Seals what must not be read in the database: AES-256-GCM, a random 96-bit nonce for each value, and the
 * value's place (`destination:12:secret`) as authenticated context, so that a sealed text copied to another
 * place does not open. Changing the derivation, its salt or the format makes every stored secret unreadable.
 */
import { createCipheriv, createDecipheriv, createHmac, randomBytes, scryptSync } from 'node:crypto';

export interface Sealer {
  /** Seals with the first key. `context` names the place of the value and must be given again to open it. */
  seal(plain: string, context: string): string;
  /** @throws SealError when no key fits, or the text was changed or belongs to another place. */
  open(sealed: string, context: string): string;
  /** Whether a text was sealed with the first key; otherwise it should be sealed anew. */
  isCurrent(sealed: string): boolean;
}

/** A sealed text does not open. The message is for the admin and tells no secret. */
export class SealError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'SealError';
  }
}

interface Key {
  readonly id: string;
  readonly bytes: Buffer;
}

const version = 'v1';
const nonceBytes = 12;
const tagBytes = 16;
const shortestKey = 16;

/**
 * Makes a sealer from SECRET_KEY: one key or several separated by commas, each 16 characters or more. The
 * first seals, all open: to change the key put the new one in front, restart, then drop the old one.
 * Takes about 50 ms a key, since a key may be a phrase that a person thought of.
 * @throws Error when a key is too short.
 */
export function createSealer(secretKey: string): Sealer {
  const phrases = secretKey.split(',').map((phrase) => phrase.trim());
  if (phrases.some((phrase) => phrase.length < shortestKey)) {
    throw new Error(
      `SECRET_KEY must be ${shortestKey} characters or more (several keys: separated by commas).`,
    );
  }
  const keys = phrases.map(deriveKey);
  const first = keys[0] as Key;

  return {
    seal(plain, context) {
      const nonce = randomBytes(nonceBytes);
      const cipher = createCipheriv('aes-256-gcm', first.bytes, nonce).setAAD(Buffer.from(context));
      const body = Buffer.concat([cipher.update(plain, 'utf8'), cipher.final(), cipher.getAuthTag()]);
      return [version, first.id, nonce.toString('base64url'), body.toString('base64url')].join('.');
    },
    open(sealed, context) {
      const [format, keyId, nonceText = '', bodyText = ''] = sealed.split('.');
      const nonce = Buffer.from(nonceText, 'base64url');
      const body = Buffer.from(bodyText, 'base64url');
      if (format !== version || nonce.length !== nonceBytes || body.length < tagBytes) {
        throw new SealError(`The sealed value of ${context} is damaged.`);
      }
      const key = keys.find((candidate) => candidate.id === keyId);
      if (!key) throw new SealError(`${context} was sealed with a key that SECRET_KEY no longer holds.`);
      try {
        const decipher = createDecipheriv('aes-256-gcm', key.bytes, nonce).setAAD(Buffer.from(context));
        decipher.setAuthTag(body.subarray(-tagBytes));
        return Buffer.concat([decipher.update(body.subarray(0, -tagBytes)), decipher.final()]).toString(
          'utf8',
        );
      } catch (cause) {
        throw new SealError(`The sealed value of ${context} was changed or belongs elsewhere.`, { cause });
      }
    },
    isCurrent: (sealed) => sealed.startsWith(`${version}.${first.id}.`),
  };
}

function deriveKey(phrase: string): Key {
  const bytes = scryptSync(phrase, 'repeater.sealed-settings.v1', 32, { N: 2 ** 14, r: 8, p: 1 });
  return { id: createHmac('sha256', bytes).update('key id').digest('hex').slice(0, 12), bytes };
}

const environmentReference = /^env:([A-Za-z_][A-Za-z0-9_]*)$/;

/** The program's own secrets: a destination's settings must not be a way to read them. */
const ownVariables = /^(ADMIN_TOKEN|SECRET_KEY|DATABASE_URL|READ_DATABASE_URL|WRITE_KEY|PG[A-Z]*)$/;

/** The variable named by an `env:NAME` reference; null when the text is none. */
export function referencedVariable(text: string): string | null {
  return environmentReference.exec(text)?.[1] ?? null;
}

export interface SecretReaderDeps {
  readonly sealer: Sealer;
  /** config/env.ts `readEnvironment`: the value of a variable at this moment. */
  readonly readEnvironment: (name: string) => string | undefined;
}

/** Turns a stored secret, sealed or an `env:NAME` reference, into its value. */
export type ReadSecret = (stored: string, context: string) => string;

/**
 * Makes the function that reads stored secrets. References are resolved at each call, so a changed
 * variable counts from the next start of the process on.
 */
export function createSecretReader({ sealer, readEnvironment }: SecretReaderDeps): ReadSecret {
  return (stored, context) => {
    const name = referencedVariable(stored);
    if (name === null) return sealer.open(stored, context);
    if (ownVariables.test(name)) throw new SealError(`env:${name} may not be used in settings.`);
    const value = readEnvironment(name);
    if (value === undefined)
      throw new SealError(`The environment variable ${name} is not set on this machine.`);
    return value;
  };
}
