/**
 * What every measure of the benchmark shares: alternating rounds, medians, and the table. A measure is a ratio
 * of two things done in turn in the same run on the same machine, so a slow machine slows both.
 */

/** One row of the table. */
export interface Row {
  readonly measure: string;
  /** What was reached, e.g. `31,200 events/s`. */
  readonly reached: string;
  /** The limit measured beside it. */
  readonly limit: string;
  readonly ratio: number;
  readonly must: number;
  readonly aim: number;
  /** Whether more is better, as of a throughput, or less, as of a duration. */
  readonly better: 'more' | 'less';
  readonly unit?: string;
}

export const rounds = Number(process.env['BENCH_ROUNDS'] ?? 5);

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/**
 * Runs the given things in turn, once without counting and then `rounds` times, in an order that turns around
 * every time; the median of each.
 */
export async function alternate<Name extends string>(
  things: Readonly<Record<Name, () => Promise<number>>>,
  options: { readonly rounds?: number; readonly warmUp?: boolean } = {},
): Promise<Record<Name, number>> {
  const names = Object.keys(things) as Name[];
  const results = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  if (options.warmUp !== false) for (const name of names) await things[name]();
  for (let round = 0; round < (options.rounds ?? rounds); round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) {
      results[name].push(await things[name]());
    }
  }
  for (const name of names) note(`${name}: ${results[name].map((value) => count(value)).join(', ')}`);
  return Object.fromEntries(names.map((name) => [name, median(results[name])])) as Record<Name, number>;
}

export function count(value: number): string {
  return value.toLocaleString('en-GB', { maximumFractionDigits: value < 100 ? 2 : 0 });
}

/** Progress, beside the table. */
export function note(text: string): void {
  process.stderr.write(`  ${text}\n`);
}

export function holds(row: Row, bound: number): boolean {
  return row.better === 'more' ? row.ratio >= bound : row.ratio <= bound;
}

export function renderTable(rows: readonly Row[]): string {
  const cells = rows.map((row) => {
    const verdict = holds(row, row.aim) ? 'aim' : holds(row, row.must) ? 'must' : 'MISSED';
    const figure = (value: number) => (row.unit ? `${count(value)} ${row.unit}` : value.toFixed(2));
    return [
      row.measure,
      row.reached,
      row.limit,
      figure(row.ratio),
      figure(row.must),
      figure(row.aim),
      verdict,
    ];
  });
  const head = ['measure', 'reached', 'limit of the same run', 'ratio', 'must', 'aim', 'holds'];
  const widths = head.map((title, column) =>
    Math.max(title.length, ...cells.map((row) => (row[column] as string).length)),
  );
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, column) => cell.padEnd(widths[column] as number)).join(' | ')} |`;
  return [line(head), `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...cells.map(line)].join(
    '\n',
  );
}
