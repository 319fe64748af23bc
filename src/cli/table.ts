/**
 * Tables for people: aligned by what a terminal draws, cut to its width, safe whatever the cells hold.
 * Without a width nothing is cut, so that what is piped on is whole. Rows too wide for a table become records.
 */
import { cutToWidth, displayWidth, padTo, printable } from './printable.ts';

export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
  /** Never cut: ids are there to be copied. */
  readonly whole?: boolean;
  /** Colours a cell after it was cut and padded; must not change its width. */
  readonly style?: (cell: string, value: Cell) => string;
}

/** Null is drawn as `-`, or what `empty` says. */
export type Cell = string | number | boolean | null;

export interface TableOptions {
  readonly columns: readonly Column[];
  readonly rows: readonly (readonly Cell[])[];
  /** Cells of a line; null: any. */
  readonly width: number | null;
  readonly empty?: string;
  readonly styleTitle?: (title: string) => string;
}

const gap = '  ';
/** A column is cut no further than this. */
const narrowest = 6;
/** Cells of a column that are worth more than a table. */
const usefulCells = 12;

/** The lines of a table, without trailing spaces. */
export function renderTable(options: TableOptions): string[] {
  const { columns, width, styleTitle = (title) => title } = options;
  const texts = textsOf(options);
  const natural = naturalWidths(options, texts);
  const widths = width === null ? natural : fit(columns, natural, width);
  const align = (index: number) => columns[index]?.align ?? 'left';
  const title = columns.map((column, index) =>
    cutCell(printable(column.title), widths[index] ?? 0, align(index)),
  );
  const lines = texts.map((row, rowIndex) =>
    row.map((text, index) => {
      const cell = cutCell(text, widths[index] ?? 0, align(index));
      const value = options.rows[rowIndex]?.[index] ?? null;
      return columns[index]?.style?.(cell, value) ?? cell;
    }),
  );
  const rule = widths.map((cells) => '─'.repeat(cells)).join(gap);
  return [styleTitle(title.join(gap).trimEnd()), rule, ...lines.map((line) => line.join(gap).trimEnd())];
}

/** Whether a table of these rows would be cut beyond use: then `renderRecords` shows them better. */
export function isTooWide(options: TableOptions): boolean {
  const { columns, width } = options;
  if (width === null) return false;
  const least = naturalWidths(options, textsOf(options)).map((cells, index) =>
    columns[index]?.whole === true ? cells : Math.min(usefulCells, cells),
  );
  return total(least) > width;
}

/** Each row as a block of `name  value` lines, long values cut to the width. */
export function renderRecords(options: TableOptions): string[] {
  const { columns, width, styleTitle = (title) => title } = options;
  const titles = columns.map((column) => printable(column.title));
  const widest = Math.max(0, ...titles.map(displayWidth));
  return textsOf(options).flatMap((row, rowIndex) => {
    const head = `── ${rowIndex + 1} `;
    const rule = head + '─'.repeat(Math.max(0, Math.min(width ?? 40, 60) - head.length));
    const lines = row.map((text, index) => {
      const name = styleTitle(padTo(titles[index] ?? '', widest));
      const room = width === null ? text : cutToWidth(text, Math.max(narrowest, width - widest - gap.length));
      const value = options.rows[rowIndex]?.[index] ?? null;
      return `${name}${gap}${columns[index]?.style?.(room, value) ?? room}`.trimEnd();
    });
    return [rule, ...lines];
  });
}

function textsOf({ rows, width, empty = '-' }: TableOptions): string[][] {
  // A cell may hold megabytes, of which a line shows little.
  const most = width === null ? Infinity : width * 8;
  return rows.map((row) =>
    row.map((cell) => (cell === null ? empty : printable(String(cell).slice(0, most)))),
  );
}

function naturalWidths({ columns }: TableOptions, texts: readonly (readonly string[])[]): number[] {
  return columns.map((column, index) =>
    texts.reduce(
      (widest, row) => Math.max(widest, displayWidth(row[index] ?? '')),
      displayWidth(printable(column.title)),
    ),
  );
}

function cutCell(text: string, width: number, align: 'left' | 'right'): string {
  return padTo(cutToWidth(text, width), width, align);
}

function total(widths: readonly number[]): number {
  return widths.reduce((sum, cells) => sum + cells, 0) + gap.length * Math.max(0, widths.length - 1);
}

/** Takes from the widest columns first, until the line fits or every column that may be cut is at its least. */
function fit(columns: readonly Column[], natural: readonly number[], width: number): number[] {
  const widths = natural.map((cells, index) =>
    columns[index]?.whole === true ? cells : Math.min(cells, width),
  );
  const least = columns.map((column, index) => (column.whole === true ? (natural[index] ?? 0) : narrowest));
  while (total(widths) > width) {
    const [widest = -1] = widths
      .map((_, index) => index)
      .filter((index) => (widths[index] ?? 0) > (least[index] ?? 0))
      .sort((left, right) => (widths[right] ?? 0) - (widths[left] ?? 0));
    if (widest === -1) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return widths;
}

/** `name  value` lines, the values under each other; nothing is cut. */
export function renderFacts(
  facts: readonly (readonly [name: string, value: Cell])[],
  styleName: (name: string) => string = (name) => name,
): string[] {
  const widest = Math.max(0, ...facts.map(([name]) => displayWidth(printable(name))));
  return facts.map(([name, value]) => {
    const text = value === null ? '-' : printable(String(value));
    return `${styleName(padTo(printable(name), widest))}${gap}${text}`;
  });
}
