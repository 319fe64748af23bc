/**
 * DATA_DIR/repeater.json: what an installation with the embedded database made for itself, and where it was
 * last reachable, so that commands on the same machine find it. Readable by its owner only; written whole or
 * not at all. Never written when DATABASE_URL is set.
 */
import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';

export interface InstallationFile {
  readonly adminToken?: string;
  readonly secretKey?: string;
  readonly writeKey?: string;
  /** Where the API listened last, e.g. `http://127.0.0.1:8080`. */
  readonly address?: string;
}

const fields = ['adminToken', 'secretKey', 'writeKey', 'address'] as const;

/** The path of the file in a data folder. */
export function installationFilePath(dataDir: string): string {
  return join(dataDir, 'repeater.json');
}

/** What the file holds; nothing when it does not exist. @throws Error when it is damaged or may not be read. */
export async function readInstallationFile(dataDir: string): Promise<InstallationFile> {
  const path = installationFilePath(dataDir);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
  const content = parseObject(text);
  if (content === null) {
    throw new Error(
      `${path} is damaged. It holds the key of this installation's stored secrets: restore it from a backup.`,
    );
  }
  const known = fields.map((field) => [field, content[field]] as const);
  return Object.fromEntries(known.filter(([, value]) => typeof value === 'string' && value !== ''));
}

/** Replaces the file. A crash leaves the old or the new content, never a part. */
export async function writeInstallationFile(dataDir: string, content: InstallationFile): Promise<void> {
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  const path = installationFilePath(dataDir);
  const draft = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    const file = await open(draft, 'wx', 0o600);
    try {
      await file.writeFile(`${JSON.stringify(content, null, 2)}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, path);
  } catch (error) {
    await rm(draft, { force: true });
    throw error;
  }
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}
