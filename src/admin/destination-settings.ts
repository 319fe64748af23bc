/**
 * A destination's settings on their way in and out. In: completed, checked by the type's JSON Schema and the
 * address rules, secrets sealed or kept as `env:NAME` references. Out: secrets masked. A secret leaves this
 * file readable only once, in the answer to the creation that generated it.
 */
import { randomBytes } from 'node:crypto';
import { referencedVariable, type ReadSecret, SealError, type Sealer } from '../config/secrets.ts';
import type { DestinationType } from '../destinations/catalogue.ts';
import { openSecrets, secretContext } from '../routing/destinations.ts';
import type { Problem } from '../validation/compile.ts';
import { invalidRequest } from './validated.ts';

export type Settings = Readonly<Record<string, unknown>>;

export interface StoredSettings {
  /** Without secrets. */
  readonly settings: Settings;
  /** Field -> sealed JSON or reference. */
  readonly secrets: Readonly<Record<string, string>>;
}

export interface SettingsDeps {
  readonly sealer: Sealer;
  readonly readSecret: ReadSecret;
  /** Refuses addresses that destinations may not reach. @throws AppError blocked_address */
  readonly checkDestinationUrl: (url: string) => Promise<void>;
}

interface SettingSchema {
  readonly writeOnly?: boolean;
  readonly format?: string;
}

/** Settings of a new destination, with what the type generates for itself. */
export function completeSettings(
  type: DestinationType,
  given: Settings,
): { settings: Settings; generated: Settings } {
  const settings = type.definition.complete?.(given, randomBytes) ?? given;
  const generated = Object.entries(settings).filter(([field]) => isSecret(type, field) && !(field in given));
  return { settings, generated: Object.fromEntries(generated) };
}

/** What a change makes of the present settings: absent fields and masked secrets stay, null removes. */
export function mergeSettings(type: DestinationType, present: Settings, change: Settings): Settings {
  const merged: Record<string, unknown> = { ...present };
  for (const [field, value] of Object.entries(change)) {
    if (isSecret(type, field) && field in present && value === maskSecret(present[field])) continue;
    if (value === null) delete merged[field];
    else merged[field] = value;
  }
  return merged;
}

/**
 * Checks settings as they will be used, references resolved.
 * @throws AppError invalid_request with fields `settings.…`; blocked_address
 */
export async function checkSettings(
  deps: SettingsDeps,
  type: DestinationType,
  settings: Settings,
): Promise<void> {
  const resolved = resolveReferences(deps, type, settings);
  const problems = type.validateSettings(resolved).map((problem) => ({
    ...problem,
    field: problem.field === '' ? 'settings' : `settings.${problem.field}`,
  }));
  if (problems.length > 0) throw invalidRequest(problems.map((problem) => withoutSecret(type, problem)));
  for (const [field, { format }] of Object.entries(schemasOf(type))) {
    const value = resolved[field];
    if (format === 'uri' && typeof value === 'string') await deps.checkDestinationUrl(value);
  }
}

/** Splits checked settings for the table. Sealing needs the destination's id: a secret is bound to its place. */
export function sealSettings(
  { sealer }: SettingsDeps,
  type: DestinationType,
  destination: { readonly id: number; readonly settings: Settings },
): StoredSettings {
  const settings: Record<string, unknown> = {};
  const secrets: Record<string, string> = {};
  for (const [field, value] of Object.entries(destination.settings)) {
    if (!isSecret(type, field)) settings[field] = value;
    else if (isReference(value)) secrets[field] = value;
    else secrets[field] = sealer.seal(JSON.stringify(value), secretContext(destination.id, field));
  }
  return { settings, secrets };
}

/** Stored settings whole, references unresolved, for a change. @throws SealError */
export function unsealSettings({ readSecret }: SettingsDeps, id: number, stored: StoredSettings): Settings {
  const read: ReadSecret = (text, context) => (isReference(text) ? text : readSecret(text, context));
  return { ...stored.settings, ...openSecrets(id, stored.secrets, read) };
}

/** Settings as answers show them. A secret that cannot be opened is shown as one without its end. */
export function maskSettings(deps: SettingsDeps, id: number, stored: StoredSettings): Settings {
  const masked = Object.entries(stored.secrets).map(([field, text]) => {
    try {
      return [
        field,
        maskSecret(unsealSettings(deps, id, { settings: {}, secrets: { [field]: text } })[field]),
      ];
    } catch (error) {
      if (error instanceof SealError) return [field, dots];
      throw error;
    }
  });
  return { ...stored.settings, ...(Object.fromEntries(masked) as Settings) };
}

const dots = '••••';

/** The last four characters tell keys apart; a short secret would be half told by them. */
function maskSecret(value: unknown): unknown {
  if (isReference(value)) return value;
  return typeof value === 'string' && value.length >= 12 ? `${dots}${value.slice(-4)}` : dots;
}

function resolveReferences(deps: SettingsDeps, type: DestinationType, settings: Settings): Settings {
  const problems: Problem[] = [];
  const entries = Object.entries(settings).map(([field, value]) => {
    if (!isSecret(type, field) || !isReference(value)) return [field, value];
    try {
      return [field, deps.readSecret(value, field)];
    } catch (error) {
      if (!(error instanceof SealError)) throw error;
      problems.push({ field: `settings.${field}`, expected: 'a variable that is set here', got: value });
      return [field, value];
    }
  });
  if (problems.length > 0) throw invalidRequest(problems);
  return Object.fromEntries(entries) as Settings;
}

/** A refused secret is not repeated in the answer, which may be logged by whoever asked. */
function withoutSecret(type: DestinationType, problem: Problem): Problem {
  const field = problem.field.split('.')[1] ?? '';
  return isSecret(type, field) && problem.got !== 'nothing'
    ? { field: problem.field, expected: problem.expected }
    : problem;
}

function isReference(value: unknown): value is string {
  return typeof value === 'string' && referencedVariable(value) !== null;
}

function isSecret(type: DestinationType, field: string): boolean {
  return schemasOf(type)[field]?.writeOnly === true;
}

function schemasOf(type: DestinationType): Readonly<Record<string, SettingSchema>> {
  return (type.settingsSchema as { properties?: Record<string, SettingSchema> }).properties ?? {};
}
