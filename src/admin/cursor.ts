/**
 * Where a list goes on: the sort key of its last item, as a text that callers hand back unread. A cursor
 * that was changed is refused or points elsewhere in the same list; it opens nothing.
 */
import { AppError } from '../lib/errors.ts';

type CursorPart = string | number;

/** The `next` of a page; null when the page was the last. `rows` holds one more than `limit` if there is more. */
export function nextCursor<Row>(
  rows: readonly Row[],
  limit: number,
  keyOf: (row: Row) => readonly CursorPart[],
): string | null {
  const last = rows[limit - 1];
  return rows.length > limit && last !== undefined
    ? Buffer.from(JSON.stringify(keyOf(last))).toString('base64url')
    : null;
}

/**
 * Reads a cursor of a list whose sort key has parts of the given kinds; null when there is none.
 * @throws AppError invalid_request
 */
export function parseCursor(
  text: string | undefined,
  kinds: readonly ('string' | 'number')[],
): CursorPart[] | null {
  if (text === undefined) return null;
  const parts = decode(text);
  const fits =
    Array.isArray(parts) &&
    parts.length === kinds.length &&
    parts.every((part: unknown, index) => typeof part === kinds[index] && isStorable(part));
  if (!fits) {
    const problem = { field: 'cursor', expected: 'the `next` of the page before' };
    throw new AppError('invalid_request', {
      message: `cursor: expected ${problem.expected}.`,
      details: [problem],
    });
  }
  return parts as CursorPart[];
}

/** Postgres takes neither NUL in a text nor a fraction as a position. */
function isStorable(part: unknown): boolean {
  return typeof part === 'string' ? !part.includes('\0') : Number.isSafeInteger(part);
}

function decode(text: string): unknown {
  try {
    return JSON.parse(Buffer.from(text, 'base64url').toString('utf8')) as unknown;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
