/**
 * A log line for a person at a terminal: time, level, message, then the facts as name=value. Values stay
 * JSON, and every control character is written as its escape, so that logged text cannot drive the terminal.
 */
import { stripVTControlCharacters } from 'node:util';

/** Turns a JSON line of the log into a readable one; what is no JSON passes through. */
export function formatLine(line: string): string {
  let record: Record<string, unknown>;
  try {
    record = JSON.parse(line) as Record<string, unknown>;
  } catch (error) {
    if (error instanceof SyntaxError) return line;
    throw error;
  }
  const { time, level, msg, err, ...facts } = record;
  const clock = typeof time === 'string' ? new Date(time).toTimeString().slice(0, 8) : '';
  const head = [clock, String(level).toUpperCase(), typeof msg === 'string' ? plain(msg) : ''].filter(
    Boolean,
  );
  const tail = Object.entries(facts).map(([name, value]) => `${plain(name)}=${plain(JSON.stringify(value))}`);
  return `${[...head, ...tail].join(' ')}\n${formatError(err)}`;
}

function formatError(err: unknown): string {
  if (typeof err !== 'object' || err === null) return '';
  const { stack, message } = err as { stack?: unknown; message?: unknown };
  const text = typeof stack === 'string' ? stack : typeof message === 'string' ? message : '';
  return text
    .split('\n')
    .map((part) => `    ${plain(part)}\n`)
    .join('');
}

function plain(text: string): string {
  return stripVTControlCharacters(text).replaceAll(/\p{Cc}/gu, (character) =>
    JSON.stringify(character).slice(1, -1).replace('\u007f', '\\u007f'),
  );
}
