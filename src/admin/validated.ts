/**
 * Reads a request by its valibot shape and describes it in the OpenAPI document from the same shape.
 * Every problem is reported at once, by path. The content type is not insisted on: curl sends a form's.
 */
import type { Context, Env, MiddlewareHandler } from 'hono';
import { resolver, uniqueSymbol } from 'hono-openapi';
import * as v from 'valibot';
import { AppError } from '../lib/errors.ts';
import type { Problem } from '../validation/compile.ts';

type Shape = v.GenericSchema;
type Valid<Target extends 'json' | 'query', S extends Shape> = MiddlewareHandler<
  Env,
  string,
  { in: { [Key in Target]: v.InferInput<S> }; out: { [Key in Target]: v.InferOutput<S> } }
>;

/** Shapes describe what is sent, before defaults; checks that JSON Schema cannot say are left out. */
export const schemaOptions = { options: { typeMode: 'input', errorMode: 'ignore' } } as const;

/** Largest JSON body that the admin API reads. */
const mostBodyBytes = 1024 * 1024;

/** The JSON body by its shape; `c.req.valid('json')` in the handler. */
export function validBody<S extends Shape>(shape: S): Valid<'json', S> {
  return described('json', shape, async (c) => parseJson(await readText(c)));
}

/** Counts as it reads. (Hono's own limit wraps a request without Content-Length, and fails over a real socket.) */
async function readText(c: Context): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of c.req.raw.body ?? []) {
    bytes += chunk.length;
    if (bytes > mostBodyBytes) {
      throw new AppError('body_too_large', { message: 'The request body is larger than 1 MB.' });
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** The query string by its shape; only the fields in `lists` may be repeated. */
export function validQuery<S extends Shape>(shape: S, lists: readonly string[] = []): Valid<'query', S> {
  return described('query', shape, (c) => {
    const given = Object.entries(c.req.queries());
    return Object.fromEntries(
      given.map(([field, values]) => [
        field,
        lists.includes(field) || values.length > 1 ? values : values[0],
      ]),
    );
  });
}

function described<Target extends 'json' | 'query', S extends Shape>(
  target: Target,
  shape: S,
  read: (c: Context) => unknown,
): Valid<Target, S> {
  const middleware: Valid<Target, S> = async (c, next) => {
    c.req.addValidatedData(target, parseShape(shape, await read(c)) as object);
    await next();
  };
  return Object.assign(middleware, { [uniqueSymbol]: { target, ...resolver(shape, schemaOptions) } });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new AppError('invalid_json', { cause });
  }
}

function parseShape<S extends Shape>(shape: S, value: unknown): v.InferOutput<S> {
  const result = v.safeParse(shape, value);
  if (result.success) return result.output;
  throw invalidRequest(result.issues.map(problemOf));
}

/** The error for a request with these problems; its message names the first, its details all. */
export function invalidRequest(problems: readonly Problem[]): AppError {
  const [first] = problems;
  const got = first?.got === undefined ? '' : `, got ${first.got}`;
  const message = first
    ? `${first.field || 'the request'}: expected ${first.expected}${got}.`
    : 'The request is not valid.';
  return new AppError('invalid_request', { message, details: problems });
}

function problemOf(issue: v.BaseIssue<unknown>): Problem {
  const field = v.getDotPath(issue) ?? '';
  if (issue.type === 'strict_object' && issue.expected === 'never') {
    return { field, expected: 'no field of this name' };
  }
  if (issue.received === 'undefined') return { field, expected: 'to be present', got: 'nothing' };
  const ownWords = !issue.message.startsWith('Invalid ');
  const expected = ownWords ? issue.message : wordsOf(issue.expected ?? issue.message);
  // Of a length valibot tells the number only.
  const got = typeof issue.input === 'string' ? JSON.stringify(issue.input) : issue.received;
  return { field, expected, got: shorten(got) };
}

/** `one of skip, block` where valibot says `("skip" | "block")`. */
function wordsOf(expected: string): string {
  const [, options] = /^\((".*")\)$/.exec(expected) ?? [];
  return options === undefined ? expected : `one of ${options.replaceAll('"', '').replaceAll(' | ', ', ')}`;
}

function shorten(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
