/**
 * Hostile JSON, made harmless or refused. Postgres' jsonb is not JSON: it refuses NUL characters and lone
 * surrogates (failing the whole insert), and writes 1e300 out with all its zeros; JSON.parse turns 1e400
 * into Infinity and rounds integers above 2^53. Ordinary bodies pay one look at their bytes.
 */
import { isUtf8 } from 'node:buffer';
import { AppError } from './errors.ts';

/** A parsed body. The flags say which of the slower checks its values still need. */
export interface ParsedJson {
  readonly value: unknown;
  /** Some text in it holds, or may hold, NUL characters or lone surrogates. */
  readonly mayHoldBadText: boolean;
  /** Numbers were written in a way that needed a second look; see `findUnstorableNumber`. */
  readonly mayHoldBadNumbers: boolean;
}

/** Stands for a number that cannot be stored as it was written. */
class UnstorableNumber {
  readonly source: string;
  constructor(source: string) {
    this.source = source;
  }

  /** As text, where the refused event is kept. */
  toJSON(): string {
    return this.source;
  }
}

const quote = 0x22;
const backslash = 0x5c;
const openBracket = 0x5b;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;

/** A number right after `:`, `,` or `[` that has an exponent or 16 and more digits. Inside texts it may match for nothing. */
const unusualNumber = /[:,[]\s*-?(?:\d+(?:\.\d+)?[eE]|[\d.]{16})/;
/** The smallest double with all its 15 to 17 digits. */
const smallestNormal = 2.2250738585072014e-308;
const badTextEscape = /\\u(?:0000|[dD][89a-fA-F])/;

/**
 * Parses a request body.
 * @throws AppError invalid_encoding (not UTF-8), too_deep, invalid_json
 */
export function parseJson(bytes: Buffer, maxDepth: number): ParsedJson {
  if (!isUtf8(bytes))
    throw new AppError('invalid_encoding', { message: 'The request body is not valid UTF-8.' });
  if (depthOf(bytes, maxDepth) > maxDepth) {
    throw new AppError('too_deep', { message: `The JSON is nested deeper than ${maxDepth} levels.` });
  }
  const text = bytes.toString('utf8');
  const mayHoldBadNumbers = unusualNumber.test(text);
  try {
    return {
      value: mayHoldBadNumbers ? JSON.parse(text, keepNumbers) : JSON.parse(text),
      mayHoldBadText: bytes.includes('\\u') && badTextEscape.test(text),
      mayHoldBadNumbers,
    };
  } catch (cause) {
    const { message } = cause as Error;
    throw new AppError('invalid_json', {
      message: `The request body is not valid JSON: ${cutSnippet(message)}`,
      cause,
    });
  }
}

/** Deepest nesting, counted up to one above the limit. */
function depthOf(bytes: Buffer, limit: number): number {
  let depth = 0;
  let deepest = 0;
  let inText = false;
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index];
    if (inText) {
      if (byte === backslash) index++;
      else if (byte === quote) inText = false;
    } else if (byte === quote) inText = true;
    else if (byte === openBrace || byte === openBracket) {
      if (++depth > deepest) {
        deepest = depth;
        if (deepest > limit) return deepest;
      }
    } else if (byte === closeBrace || byte === closeBracket) depth--;
  }
  return deepest;
}

/** V8 quotes the input in its message; what somebody sent is not repeated at length. */
function cutSnippet(message: string): string {
  return message.replace(/,? ?\.{3}[\s\S]*$/, '').slice(0, 120);
}

/** Keeps the digits of numbers that a double would change, and marks those that cannot be kept. */
function keepNumbers(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== 'number' || context?.source === undefined) return value;
  const { source } = context;
  if (!Number.isFinite(value)) return new UnstorableNumber(source);
  const digits = source.replace(/[eE].*$|^-?0?\.?0*|\./g, '').length;
  // Below the normal range a double has fewer digits, and none at all in the end.
  if (Math.abs(value) < smallestNormal && digits > 0 && String(value) !== source)
    return new UnstorableNumber(source);
  if (digits <= 15 || String(value) === source) return value;
  return JSON.rawJSON(source);
}

/** How much longer than written numbers of one event may become when Postgres writes them out, in characters. */
const expansionSlack = 512;

/**
 * The path of a number in an event that cannot be stored as it was written: out of a double's range, or so
 * many with exponents that the stored text would be many times the sent one. Null: all is well.
 */
export function findUnstorableNumber(event: unknown): { field: string; source: string } | null {
  let expansion = 0;
  const walk = (value: unknown, path: string): { field: string; source: string } | null => {
    if (value instanceof UnstorableNumber) return { field: path, source: value.source };
    if (typeof value === 'number' || JSON.isRawJSON(value)) {
      const source = JSON.stringify(value);
      const number = Number(source);
      const exponent = number === 0 ? 0 : Math.abs(Math.log10(Math.abs(number)));
      if (exponent > 21) expansion += exponent - 4 * source.length;
      return expansion > expansionSlack ? { field: path, source } : null;
    }
    if (value === null || typeof value !== 'object') return null;
    for (const [key, item] of Object.entries(value)) {
      const found = walk(item, path ? `${path}.${key}` : key);
      if (found) return found;
    }
    return null;
  };
  return walk(event, '');
}

const replacement = '\ufffd';

/**
 * A copy with NUL characters and lone surrogates replaced by U+FFFD, in keys too; the same object when there
 * are none.
 */
export function replaceBadText<Value>(value: Value): Value {
  return repair(value) as Value;
}

function repair(value: unknown): unknown {
  if (typeof value === 'string') return repairText(value);
  if (
    value === null ||
    typeof value !== 'object' ||
    JSON.isRawJSON(value) ||
    value instanceof UnstorableNumber
  )
    return value;
  if (Array.isArray(value)) {
    const items = value.map(repair);
    return items.some((item, index) => item !== value[index]) ? items : value;
  }
  let changed = false;
  const entries = Object.entries(value).map(([key, item]) => {
    const entry = [repairText(key), repair(item)] as const;
    changed ||= entry[0] !== key || entry[1] !== item;
    return entry;
  });
  // fromEntries defines own properties, so that a key `__proto__` stays data.
  return changed ? Object.fromEntries(entries) : value;
}

function repairText(text: string): string {
  const wellFormed = text.toWellFormed();
  return wellFormed.includes('\0') ? wellFormed.replaceAll('\0', replacement) : wellFormed;
}
