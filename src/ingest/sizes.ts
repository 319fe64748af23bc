/** Which part of an event is larger than is kept. Events too short to hold such a part cost one comparison. */
import type { Problem } from '../validation/compile.ts';
import { maxEventBytes, maxKeyLength, maxKeys, maxStringLength } from './limits.ts';

/** Null: nothing is. `text` is the event as it would be stored. */
export function oversizedPart(event: unknown, text: string): Problem | null {
  const { length } = text;
  if (length <= maxKeyLength && length * 3 <= maxEventBytes) return null;
  const bytes = length > maxEventBytes ? length : Buffer.byteLength(text);
  const isTooLong = bytes > maxEventBytes;
  const found = length > maxKeyLength ? search(event) : null;
  if (found !== null && (!isTooLong || found.field === '')) return found;
  if (!isTooLong) return null;
  return {
    field: '',
    expected: `to be at most ${maxEventBytes} bytes`,
    got: `${Buffer.byteLength(text)} bytes`,
  };
}

/** More keys than are kept, else the first key or text that is too long. */
function search(event: unknown): Problem | null {
  let keys = 0;
  let found: Problem | null = null;
  const walk = (value: unknown, path: string): void => {
    if (typeof value === 'string' && value.length > maxStringLength) {
      found ??= {
        field: path,
        expected: `to be a text of at most ${maxStringLength} characters`,
        got: `${value.length} characters`,
      };
    }
    if (typeof value !== 'object' || value === null || keys > maxKeys) return;
    const isList = Array.isArray(value);
    for (const key of Object.keys(value)) {
      if (!isList && ++keys > maxKeys) return;
      if (!isList && key.length > maxKeyLength) {
        found ??= {
          field: path === '' ? key.slice(0, 40) : `${path}.${key.slice(0, 40)}`,
          expected: `to have a name of at most ${maxKeyLength} characters`,
          got: `${key.length} characters`,
        };
      }
      walk((value as Readonly<Record<string, unknown>>)[key], path === '' ? key : `${path}.${key}`);
    }
  };
  walk(event, '');
  if (keys <= maxKeys) return found;
  return { field: '', expected: `to have at most ${maxKeys} keys in all`, got: `more than ${maxKeys}` };
}
