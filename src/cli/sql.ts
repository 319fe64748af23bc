/** `repeater sql`: one statement that reads, answered as a table, JSON or CSV. */
import { text } from 'node:stream/consumers';
import type { Command } from 'commander';
import type { QueryResult } from './answers.ts';
import {
  type CommandContext,
  connect,
  examples,
  limitOption,
  type ServerOptions,
  withJsonOption,
  withServerOptions,
} from './context.ts';
import { csvLines } from './csv.ts';
import { ApiError, UsageError } from './failure.ts';
import { formatCount, formatCountOf } from './figures.ts';
import { printable } from './printable.ts';
import { type Cell, isTooWide, renderRecords, renderTable } from './table.ts';
import type { Terminal } from './terminal.ts';

interface Options extends ServerOptions {
  readonly json?: boolean;
  readonly csv?: boolean;
  readonly records?: boolean;
  readonly limit: number;
}

const nullText = 'NULL';

/** Adds the command. */
export function addSqlCommand(program: Command, context: CommandContext): void {
  const { terminal } = context;
  const sql = program
    .command('sql')
    .description('ask a question in SQL; the transaction is read-only')
    .argument('[query]', 'one statement; absent or "-": read from stdin')
    .option('--csv', "print CSV (a cell a spreadsheet would run as a formula is led by ')")
    .option('--records', 'print each row as a block; done anyway when a table would be too wide')
    .addOption(limitOption(1000))
    .addHelpText(
      'after',
      `
Events are in warehouse.events: id (the position), received_at, timestamp,
source_id, type, event, user_id, anonymous_id, message_id, payload (jsonb).
${examples(
  `repeater sql "select event, count(*) from warehouse.events group by event"`,
  `repeater sql --csv "select user_id, payload->'properties'->>'total' as total
      from warehouse.events where event = 'Order Completed'"`,
  'repeater sql < question.sql',
)}`,
    );
  withServerOptions(withJsonOption(sql)).action(async (argument: string | undefined, options: Options) => {
    const query = await readQuery(terminal, argument);
    const result = await ask(await connect(context, options), query, options.limit);
    if (options.json) terminal.printJson(objectsOf(result));
    else if (options.csv) terminal.printAll(csvLines(result.columns, result.rows));
    else printResult(terminal, result, options.records === true);
    if (result.truncated) {
      const more = `Only the first ${formatCountOf(result.rowCount, 'row')}; --limit raises the number.`;
      terminal.note(more);
    }
  });
}

async function readQuery(terminal: Terminal, argument: string | undefined): Promise<string> {
  if (argument !== undefined && argument !== '-') return argument;
  if (argument === undefined && terminal.stdin.isTTY === true) {
    throw new UsageError('Give a query: repeater sql "select count(*) from warehouse.events"');
  }
  const query = await text(terminal.stdin);
  if (query.trim() === '') throw new UsageError('The query is empty.');
  return query;
}

type Asked = Awaited<ReturnType<typeof connect>>;

async function ask(client: Asked, query: string, limit: number): Promise<QueryResult> {
  try {
    return await client.post<QueryResult>('/admin/sql', { query, limit });
  } catch (error) {
    if (error instanceof ApiError && error.code === 'query_failed') throw pointAt(query, error);
    throw error;
  }
}

/** The same error with the place in the query instead of its number. */
function pointAt(query: string, error: ApiError): ApiError {
  const { position, sqlstate, ...rest } = (error.details ?? {}) as Record<string, unknown>;
  if (typeof position !== 'number') return error;
  // Postgres counts characters from 1, JavaScript UTF-16 units from 0.
  const before = Array.from(query)
    .slice(0, position - 1)
    .join('');
  const start = before.lastIndexOf('\n') + 1;
  const line = query.slice(start).split('\n', 1)[0] ?? '';
  const column = before.length - start;
  const from = Math.max(0, column - 50);
  const shown = printable(line.slice(from, from + 70));
  const indent = ' '.repeat(printable(line.slice(from, column)).length);
  return new ApiError({
    status: error.status,
    code: error.code,
    message: `${error.message}\n  ${shown}\n  ${indent}^`,
    details: { ...rest, ...(sqlstate === undefined ? {} : { sqlstate }) },
  });
}

function printResult(terminal: Terminal, result: QueryResult, asRecords: boolean): void {
  const { columns, rows, rowCount } = result;
  const options = {
    columns: columns.map((title, index) => ({
      title,
      ...layoutOf(rows.map((row) => row[index])),
      style: (cell: string, value: Cell) => (value === null ? terminal.style('dim', cell) : cell),
    })),
    rows: rows.map((row) => row.map(cellOf)),
    width: terminal.columns(),
    empty: nullText,
    styleTitle: (title: string) => terminal.style('bold', title),
  };
  const render = rows.length > 0 && (asRecords || isTooWide(options)) ? renderRecords : renderTable;
  terminal.printAll(render(options));
  terminal.print(`(${formatCount(rowCount)} ${rowCount === 1 ? 'row' : 'rows'})`);
}

function cellOf(value: unknown): Cell {
  if (value === null || value === undefined) return null;
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value;
  return JSON.stringify(value);
}

/** Numbers stand to the right and are never cut. (`numeric` and large integers arrive as text.) */
function layoutOf(values: readonly unknown[]): { readonly align: 'left' | 'right'; readonly whole: boolean } {
  const present = values.filter((value) => value !== null && value !== undefined);
  const isNumeric =
    present.length > 0 &&
    present.every(
      (value) =>
        typeof value === 'number' || (typeof value === 'string' && /^-?\d{1,30}(?:\.\d{1,20})?$/.test(value)),
    );
  return { align: isNumeric ? 'right' : 'left', whole: isNumeric };
}

/** Rows as objects; a repeated column name gets a number, so that no value is lost. */
function objectsOf({ columns, rows }: QueryResult): Record<string, unknown>[] {
  const names: string[] = [];
  for (const column of columns) {
    let name = column;
    for (let number = 2; names.includes(name); number++) name = `${column}_${number}`;
    names.push(name);
  }
  return rows.map((row) => Object.fromEntries(names.map((name, index) => [name, row[index] ?? null])));
}
