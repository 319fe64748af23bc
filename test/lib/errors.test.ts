import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { AppError, errorCatalogue, type ErrorCode } from '../../src/lib/errors.ts';

test('docs/errors.md lists exactly the catalogue', async () => {
  const text = await readFile(new URL('../../docs/errors.md', import.meta.url), 'utf8');
  const rows = [...text.matchAll(/^\| `(\w+)` *\| (\d{3}) *\| (.+?) *\|$/gm)];
  const documented = Object.fromEntries(
    rows.map(([, code, status, words]) => [code, [Number(status), words]]),
  );
  assert.deepEqual(documented, errorCatalogue);
});

test('an error shows its code, status and public text', () => {
  for (const [code, [status, words]] of Object.entries(errorCatalogue)) {
    const error = new AppError(code as ErrorCode);
    assert.deepEqual([error.code, error.status, error.message], [code, status, words]);
  }
});
