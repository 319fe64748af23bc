/** JSON.rawJSON and source text access (Node 22 and later), which TypeScript 6's library does not describe yet. */
interface JSON {
  parse(
    text: string,
    reviver: (key: string, value: unknown, context?: { source?: string }) => unknown,
  ): unknown;
  rawJSON(text: string): object;
  isRawJSON(value: unknown): boolean;
}
