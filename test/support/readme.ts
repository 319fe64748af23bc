/**
 * The console blocks of README.md, so that a test can type what a reader would type and compare what he sees. A line
 * that begins with `$ ` is a command, the lines below it are its output.
 */
import { readFile } from 'node:fs/promises';

export interface TypedCommand {
  readonly command: string;
  /** Lines, without empty ones at the end. */
  readonly output: readonly string[];
}

/** The commands of a section, in order. @throws Error when the section is not there */
export async function readTypedCommands(heading: string): Promise<TypedCommand[]> {
  const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
  const section = readme.split(/^## /m).find((part) => part.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`README.md has no section "${heading}".`);
  const blocks = [...section.matchAll(/^```console\n([\s\S]*?)^```$/gm)].map(([, block = '']) => block);
  return blocks.flatMap((block) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((typed) => {
        const [command = '', ...output] = typed.trimEnd().split('\n');
        return { command, output };
      }),
  );
}
