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

/** What a schema expects in words for the sender, where the keyword alone would not help. */
const expectedKeyword = 'x-expected';
/** At the door the first problem ends the check: a hostile event must not cost more than a good one. */
const ajv = createAjv({ allErrors: false });
/** For settings, which an admin types: every problem at once. */
const patientAjv = createAjv({ allErrors: true });

function createAjv({ allErrors }: { allErrors: boolean }): Ajv2020 {
  const made = new Ajv2020({
    allErrors,
    strict: true,
    verbose: true,
    allowUnionTypes: true,
    strictTypes: false,
  });
  addFormats.default(made);
  made.addKeyword({ keyword: expectedKeyword, schemaType: 'string' });
  return made;
}

/** Makes a schema known by its `$id`, for others to refer to. Adding the same id again changes nothing. */
export function addSchema(schema: { readonly $id?: string }): void {
  if (schema.$id !== undefined && !ajv.getSchema(schema.$id)) ajv.addSchema(schema);
}

/**
 * Compiles a JSON Schema. `name` appears in the error when the schema itself is wrong.
 * @throws Error when the schema is not valid draft 2020-12.
 */
export function compileSchema(schema: object, name: string): Validator {
  return compileWith(ajv, { schema, name, problemsOf });
}

/** The same, for a check that reports every field that is wrong. Knows nothing of `addSchema`. @throws Error */
export function compileSettingsSchema(schema: object, name: string): Validator {
  return compileWith(patientAjv, { schema, name, problemsOf: problemByField });
}

function compileWith(
  compiler: Ajv2020,
  options: {
    readonly schema: object;
    readonly name: string;
    readonly problemsOf: (errors: readonly ErrorObject[]) => Problem[];
  },
): Validator {
  const none: readonly Problem[] = Object.freeze([]);
  let validate: ValidateFunction;
  try {
    validate = compiler.compile(options.schema);
  } catch (cause) {
    throw new Error(`Schema ${options.name} does not compile.`, { cause });
  }
  return (value) => (validate(value) ? none : options.problemsOf(validate.errors ?? []));
}

/** One problem a field, in the schema's own words where it has some. */
function problemByField(errors: readonly ErrorObject[]): Problem[] {
  const worded = errors.filter((error) => wordsOf(error) !== undefined);
  const byField = new Map<string, Problem>();
  for (const problem of [...worded, ...errors].map(problemOf)) {
    if (!byField.has(problem.field)) byField.set(problem.field, problem);
  }
  return [...byField.values()];
}

/** An `anyOf` that fails reports every branch; the words of the schema that offered the choice say more. */
function problemsOf(errors: readonly ErrorObject[]): Problem[] {
  const worded = errors.filter((error) => wordsOf(error) !== undefined);
  return (worded.length > 0 ? worded : errors.slice(0, 1)).map(problemOf);
}

function problemOf(error: ErrorObject): Problem {
  const path = error.instancePath.slice(1).replaceAll('/', '.').replaceAll('~1', '/').replaceAll('~0', '~');
  const unknown = error.params['additionalProperty'] as string | undefined;
  if (unknown !== undefined) {
    return { field: [path, unknown].filter(Boolean).join('.'), expected: 'no field of this name' };
  }
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
