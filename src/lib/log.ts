/**
 * The log: one JSON line per fact on stdout. Promises that no secret and no event gets into a line, whoever
 * logs what: values are dropped by the name of their field at any depth, of errors only listed fields are
 * kept (Postgres puts values of rows into the others), and passwords inside URLs are cut out of the finished
 * line. Lines are written in the background, up to a bound: a reader of stdout that stalls costs lines, not memory.
 */
import pino from 'pino';
import { formatLine } from './log-line.ts';

export type Log = pino.Logger;

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

export interface LogOptions {
  readonly level: LogLevel;
  /** Short lines for a person at a terminal instead of JSON. */
  readonly pretty?: boolean;
  /** Receives whole lines; stdout if absent. */
  readonly destination?: { write(line: string): unknown };
}

const secretNames =
  /^(?:.*(?:authorization|cookie|password|passphrase|secrets?|tokens?|api_?key|secret_?key|write_?keys?)|database_?url|settings|payloads?|body|batch|properties|traits|response)$/i;
/** `event` holds a whole event, or in some lines only its name. */
const eventNames = /^events?$/i;

const censored = '[redacted]';
const deepest = 6;
const mostWaiting = 8 * 1024 * 1024;

/** Makes a log. `log.info({ facts }, 'sentence')`; `log.child({ ids })` for what all lines of a task share. */
export function createLog({ level, pretty = false, destination }: LogOptions): Log {
  const lines = destination ?? pino.destination({ fd: 1, sync: false, maxLength: mostWaiting });
  const target = pretty ? { write: (line: string) => lines.write(formatLine(line)) } : lines;
  const log: Log = pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      serializers: { err: errorFacts, error: errorFacts },
      formatters: {
        level: (label) => ({ level: label }),
        log: (facts) => redact(facts, 0) as Record<string, unknown>,
      },
      hooks: { streamWrite: withoutUrlPasswords },
    },
    target,
  );
  // pino's own formatter for what children carry is not inherited by children; this method is.
  const { child } = log;
  log.child = function childWithoutSecrets(this: Log, facts: object, options?: object) {
    return child.call(this, redact(facts, 0) as pino.Bindings, options);
  } as Log['child'];
  return log;
}

function redact(value: unknown, depth: number): unknown {
  if (value instanceof Error) return errorFacts(value);
  if (typeof value !== 'object' || value === null || value instanceof Date) return value;
  if (depth === deepest) return '[deep]';
  if (Array.isArray(value)) return value.map((item) => redact(item, depth + 1));
  const kept = Object.entries(value).map(([name, field]) => [
    name,
    isSecret(name, field) ? censored : redact(field, depth + 1),
  ]);
  return Object.fromEntries(kept);
}

function isSecret(name: string, value: unknown): boolean {
  if (value === null || value === undefined || typeof value === 'boolean') return false;
  // Counts and sizes carry such names too (`batch: 100`), and tell nothing.
  if (typeof value === 'number') return false;
  return secretNames.test(name) || (eventNames.test(name) && typeof value === 'object');
}

/** What is worth knowing of an error, without the fields in which drivers keep values. */
function errorFacts(thrown: unknown): unknown {
  if (!(thrown instanceof Error)) return typeof thrown === 'object' ? redact(thrown, 1) : thrown;
  const { name, message, stack, cause } = thrown;
  const { code } = thrown as { code?: unknown };
  return {
    name,
    message,
    ...(typeof code === 'string' || typeof code === 'number' ? { code } : {}),
    stack,
    ...(cause === undefined ? {} : { cause: errorFacts(cause) }),
  };
}

function withoutUrlPasswords(line: string): string {
  return line.includes('://') ? line.replaceAll(/(:\/\/)[^\s/@"\\]+@/g, '$1***@') : line;
}
