/**
 * Settings given as `name=value` words. Values become what the destination type's schema asks for, so that
 * `timeout=5` is a number and `name=5` a text; a dot in a name leads into an object (`headers.x-team=a`).
 */
import { InvalidArgumentError } from 'commander';
import { UsageError } from './failure.ts';

/** The part of a JSON Schema that is looked at. */
export interface SettingsSchema {
  readonly type?: unknown;
  readonly properties?: Readonly<Record<string, SettingsSchema>>;
  readonly additionalProperties?: SettingsSchema | boolean;
  /** A secret. */
  readonly writeOnly?: boolean;
}

export interface Assignment {
  readonly path: readonly string[];
  readonly text: string;
}

/** Collects repeated `--set name=value`. @throws InvalidArgumentError */
export function collectAssignment(word: string, before: readonly Assignment[] = []): Assignment[] {
  const [, name = '', text = ''] = /^([^=]+)=(.*)$/s.exec(word) ?? [];
  const path = name.split('.');
  if (path.some((part) => part === '' || part === '__proto__')) {
    throw new InvalidArgumentError('Expected name=value, e.g. url=https://example.com/hook.');
  }
  return [...before, { path, text }];
}

/** The object that assignments make, by a schema; without one, texts that look like numbers or booleans become such. */
export function assignSettings(
  assignments: readonly Assignment[],
  schema?: SettingsSchema,
  start: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> {
  const settings = structuredClone(start) as Record<string, unknown>;
  for (const { path, text } of assignments) {
    const last = path.at(-1) ?? '';
    let place = settings;
    for (const folder of path.slice(0, -1)) {
      const inside = Object.hasOwn(place, folder) ? place[folder] : undefined;
      const next = typeof inside === 'object' && inside !== null ? (inside as Record<string, unknown>) : {};
      place[folder] = next;
      place = next;
    }
    place[last] = schema === undefined ? guess(text) : convert(path, text, schemaAt(schema, path));
  }
  return settings;
}

function schemaAt(schema: SettingsSchema, path: readonly string[]): SettingsSchema | undefined {
  let current: SettingsSchema | undefined = schema;
  for (const part of path) {
    const properties: Readonly<Record<string, SettingsSchema>> = current?.properties ?? {};
    const others: SettingsSchema | boolean | undefined = current?.additionalProperties;
    const other: SettingsSchema | undefined = typeof others === 'object' ? others : undefined;
    current = Object.hasOwn(properties, part) ? properties[part] : other;
  }
  return current;
}

/** What cannot be converted is sent as text: the server knows better what to say about it. */
function convert(path: readonly string[], text: string, schema: SettingsSchema | undefined): unknown {
  const types = [schema?.type].flat();
  if (types.includes('string')) return text;
  if (types.includes('number') || types.includes('integer') || types.includes('boolean')) return guess(text);
  if (!types.includes('object') && !types.includes('array')) return text;
  try {
    return JSON.parse(text) as unknown;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new UsageError(`--set ${path.join('.')}: expected JSON (${types.join(' or ')}), got ${text}`);
  }
}

function guess(text: string): unknown {
  if (text === 'true' || text === 'false') return text === 'true';
  return /^-?\d{1,15}(?:\.\d+)?$/.test(text) ? Number(text) : text;
}
