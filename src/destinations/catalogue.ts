/**
 * Finds the destination types: every file of this folder that is not part of the contract, paired with the
 * settings schema of the same slug. Adding a type edits nothing here; a file without its partner stops the start.
 */
import { readdir } from 'node:fs/promises';
import { compileSettingsSchema, type Validator } from '../validation/compile.ts';
import type { DestinationDefinition } from './definition.ts';

export interface DestinationType {
  readonly definition: DestinationDefinition;
  /** JSON Schema, draft 2020-12: validates, draws the form, masks (`writeOnly`) and fills the docs. */
  readonly settingsSchema: Readonly<Record<string, unknown>>;
  readonly validateSettings: Validator;
}

export interface Catalogue {
  get(slug: string): DestinationType | undefined;
  /** By name. */
  list(): readonly DestinationType[];
}

interface LoadOptions {
  /** Types that have no file, for tests and benchmarks. */
  readonly extra?: readonly Omit<DestinationType, 'validateSettings'>[];
}

const contractFiles = new Set(['answers.ts', 'catalogue.ts', 'definition.ts']);
const destinationFolder = new URL('./', import.meta.url);
const schemaFolder = new URL('../../schemas/destination/', import.meta.url);

/** @throws Error naming the file without its partner, the slug that differs from it, or the invalid schema. */
export async function loadDestinations(options: LoadOptions = {}): Promise<Catalogue> {
  const slugs = (await readdir(destinationFolder))
    .filter((file) => file.endsWith('.ts') && !contractFiles.has(file))
    .map((file) => file.slice(0, -3));
  const schemas = (await readdir(schemaFolder))
    .filter((file) => file.endsWith('.json'))
    .map((file) => file.slice(0, -5));
  for (const slug of schemas) {
    if (!slugs.includes(slug))
      throw new Error(`schemas/destination/${slug}.json has no src/destinations/${slug}.ts.`);
  }
  const types = new Map<string, DestinationType>();
  for (const slug of slugs) types.set(slug, await loadType(slug));
  for (const type of options.extra ?? [])
    types.set(type.definition.slug, typeOf(type.definition, type.settingsSchema));
  const sorted = [...types.values()].sort((left, right) =>
    left.definition.name.localeCompare(right.definition.name, 'en'),
  );
  return { get: (slug) => types.get(slug), list: () => sorted };
}

async function loadType(slug: string): Promise<DestinationType> {
  const file = (await import(new URL(`${slug}.ts`, destinationFolder).href)) as {
    default?: DestinationDefinition;
  };
  if (file.default?.slug !== slug) {
    throw new Error(`src/destinations/${slug}.ts: expected a default export with the slug "${slug}".`);
  }
  const schema = new URL(`${slug}.json`, schemaFolder).href;
  // By import, so that loading again gives the same object: ajv refuses a second one with the same $id.
  const { default: settingsSchema } = (await import(schema, { with: { type: 'json' } }).catch(
    (cause: unknown) => {
      throw new Error(`src/destinations/${slug}.ts has no readable schemas/destination/${slug}.json.`, {
        cause,
      });
    },
  )) as { default: Record<string, unknown> };
  return typeOf(file.default, settingsSchema);
}

function typeOf(
  definition: DestinationDefinition,
  settingsSchema: Readonly<Record<string, unknown>>,
): DestinationType {
  return {
    definition,
    settingsSchema,
    validateSettings: compileSettingsSchema(settingsSchema, `destination/${definition.slug}.json`),
  };
}
