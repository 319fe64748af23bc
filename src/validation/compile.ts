/**
 * The one place that knows ajv. Schemas are draft 2020-12, compiled once, and never change what they
 * check: no `coerceTypes`, no `removeAdditional`, no `useDefaults` (an event is stored as it came).
 */
import { Ajv2020, type ErrorObject, type ValidateFunction } from 'ajv/dist/2020.js';
import addFormats from 'ajv-formats';

/** One thing that is wrong with a value, in words for the person who sent it. */
export interface Problem {
  /** Path of the field, e.g. `properties.total`; empty for the value as a whole. */
  readonly field: string;
  readonly expected: string;
  readonly got?: string;
}

/** Checks a value; an empty list means it is valid. */
export type Validator = (value: unknown) => readonly Problem[];

const ajv = new Ajv2020({
  allErrors: false,
  strict: true,
  verbose: true,
  allowUnionTypes: true,
  strictTypes: false,
});
addFormats.default(ajv);
/** What a schema expects in words for the sender, where the keyword alone would not help. */
const expectedKeyword = 'x-expected';
ajv.addKeyword({ keyword: expectedKeyword, schemaType: 'string' });

/** Makes a schema known by its `$id`, for others to refer to. Adding the same id again changes nothing. */
export function addSchema(schema: { readonly $id?: string }): void {
  if (schema.$id !== undefined && !ajv.getSchema(schema.$id)) ajv.addSchema(schema);
}

/**
 * Compiles a JSON Schema. `name` appears in the error when the schema itself is wrong.
 * @throws Error when the schema is not valid draft 2020-12.
 */
export function compileSchema(schema: object, name: string): Validator {
  const none: readonly Problem[] = Object.freeze([]);
  let validate: ValidateFunction;
  try {
    validate = ajv.compile(schema);
  } catch (cause) {
    throw new Error(`Schema ${name} does not compile.`, { cause });
  }
  return (value) => (validate(value) ? none : problemsOf(validate.errors ?? []));
}

/** An `anyOf` that fails reports every branch; the words of the schema that offered the choice say more. */
function problemsOf(errors: readonly ErrorObject[]): Problem[] {
  const worded = errors.filter((error) => wordsOf(error) !== undefined);
  return (worded.length > 0 ? worded : errors.slice(0, 1)).map(problemOf);
}

function problemOf(error: ErrorObject): Problem {
  const path = error.instancePath.slice(1).replaceAll('/', '.').replaceAll('~1', '/').replaceAll('~0', '~');
  const missing = error.keyword === 'required' ? String(error.params['missingProperty']) : '';
  const field = missing ? [path, missing].filter(Boolean).join('.') : path;
  const expected = missing
    ? 'to be present'
    : (wordsOf(error) ?? (error.message ?? error.keyword).replace(/^must /, 'to '));
  return { field, expected, got: describe(missing ? undefined : error.data) };
}

function wordsOf(error: ErrorObject): string | undefined {
  if (
    error.keyword === 'required' &&
    error.params['missingProperty'] !== undefined &&
    error.schemaPath.startsWith('#/required')
  ) {
    return 'to be present';
  }
  return (error.parentSchema as { [expectedKeyword]?: string } | undefined)?.[expectedKeyword];
}

function describe(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'object') return 'an object';
  const text = JSON.stringify(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
