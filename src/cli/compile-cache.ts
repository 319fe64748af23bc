/**
 * Node's compile cache: without it every start reads 150 files of TypeScript and compiles them anew. Measured: ready in
 * 0.6 s instead of 0.9, and 141 MB instead of 165. It lies in the project's node_modules. With DATABASE_URL nothing is
 * created on disk, so there it is used only where it is already: the image has one that cannot be written.
 */
import { existsSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { fileURLToPath } from 'node:url';
import { readEnvironment } from '../config/env.ts';

/** To be called before anything else is imported; a folder that cannot be written costs nothing but the gain. */
export function useCompileCache(): void {
  const folder = fileURLToPath(new URL('../../node_modules/.cache/repeater', import.meta.url));
  if (readEnvironment('DATABASE_URL') !== undefined && !existsSync(folder)) return;
  enableCompileCache(folder);
}
