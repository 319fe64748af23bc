/** Loads and compiles the schemas of the six calls once; an invalid schema file stops the start. */
import { readdir, readFile } from 'node:fs/promises';
import { addSchema, compileSchema, type Problem, type Validator } from './compile.ts';

const folder = new URL('../../schemas/event/', import.meta.url);

/** Checks an event against the schema of its call; an empty list means it is valid. Null: there is no such call. */
export type EventValidator = (type: string, event: unknown) => readonly Problem[] | null;

/** @throws Error naming the file that is missing, unreadable or not a valid schema. */
export async function loadEventSchemas(): Promise<EventValidator> {
  const names = (await readdir(folder))
    .filter((name) => name.endsWith('.json'))
    .map((name) => name.slice(0, -5));
  const schemas = new Map<string, object>();
  for (const name of names) {
    schemas.set(name, JSON.parse(await readFile(new URL(`${name}.json`, folder), 'utf8')) as object);
  }
  addSchema(schemas.get('common') ?? {});
  schemas.delete('common');
  const validators = new Map<string, Validator>();
  for (const [name, schema] of schemas) validators.set(name, compileSchema(schema, `event/${name}.json`));
  return (type, event) => validators.get(type)?.(event) ?? null;
}
