/**
 * Cuts a destination's secrets out of what is recorded of a failed attempt: a vendor may repeat in its answer the
 * request it refused. Found are the secret as it is, as JSON and URLs write it, and inside base64 (Basic
 * authorization). What is shorter than six characters is left, it would be found in any text.
 */
import type { DestinationType } from '../destinations/catalogue.ts';
import type { Outcome } from '../destinations/definition.ts';

type Failed = Exclude<Outcome, { readonly kind: 'delivered' }>;

const shortest = 6;
const redacted = '[redacted]';

/** All texts in the settings that the type's schema marks as secret. */
export function secretsOf(
  type: Pick<DestinationType, 'settingsSchema'>,
  settings: Readonly<Record<string, unknown>>,
): string[] {
  const { properties = {} } = type.settingsSchema as {
    properties?: Record<string, { readonly writeOnly?: boolean }>;
  };
  return Object.entries(settings).flatMap(([field, value]) =>
    properties[field]?.writeOnly === true ? textsIn(value) : [],
  );
}

/** Makes the function that redacts; the same outcome comes back where nothing was found. */
export function createRedaction(secrets: readonly string[]): (outcome: Failed) => Failed {
  // Longest first: a part of a secret must not be cut out of the whole before it is found.
  const forms = [...new Set(secrets.flatMap(formsOf))].sort((left, right) => right.length - left.length);
  const redact = (text: string) => {
    let clean = text;
    for (const form of forms) clean = clean.replaceAll(form, redacted);
    return clean;
  };
  return (outcome) => {
    const reason = redact(outcome.reason);
    if (outcome.kind === 'retry') return reason === outcome.reason ? outcome : { ...outcome, reason };
    const { response } = outcome;
    if (response === undefined) return reason === outcome.reason ? outcome : { ...outcome, reason };
    const clean = redact(response);
    return reason === outcome.reason && clean === response
      ? outcome
      : { ...outcome, reason, response: clean };
  };
}

function textsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value];
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsIn) : [];
}

function formsOf(secret: string): string[] {
  // `Bearer abc`: the vendor may repeat the token alone.
  const parts = [secret, ...secret.split(/\s+/)].filter((part) => part.length >= shortest);
  return parts.flatMap((part) => [
    part,
    JSON.stringify(part).slice(1, -1),
    encodeURIComponent(part.toWellFormed()),
    ...[0, 1, 2].map((shift) => base64Core(part, shift)),
  ]);
}

/** The base64 characters that stand for the text alone when it begins `shift` bytes after a group of three. */
function base64Core(text: string, shift: number): string {
  const bytes = Buffer.concat([Buffer.alloc(shift), Buffer.from(text)]);
  const whole = Math.floor(bytes.length / 3) * 4;
  return bytes.toString('base64').slice(shift === 0 ? 0 : shift + 1, whole);
}
