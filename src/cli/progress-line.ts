/**
 * Progress of something long: one line redrawn in place on a terminal, else a line every few seconds, so that
 * logs stay readable. The last state is always written.
 */
import type { TerminalStream } from './terminal.ts';
import { cutToWidth, displayWidth } from './printable.ts';

export interface ProgressLine {
  /** Shows a state; `line` is asked for the cells there are. */
  update(line: (width: number) => string): void;
  /** Writes a line above the progress, which stays the last. */
  remark(text: string): void;
  /** Shows the last state and leaves it standing. */
  finish(line: (width: number) => string): void;
}

const betweenLinesMs = 5000;
const widthOfLogs = 80;

/** Makes a progress line on a stream. */
export function createProgressLine(stream: TerminalStream, now: () => number): ProgressLine {
  const isTerminal = stream.isTTY === true;
  const width = () => (isTerminal ? Math.max(20, stream.columns ?? 80) - 1 : widthOfLogs);
  let shown: ((width: number) => string) | null = null;
  let writtenAt = -Infinity;

  const draw = (line: (width: number) => string) =>
    stream.write(`\r\u001b[2K${cutToWidth(line(width()), width())}`);
  const write = (line: (width: number) => string) => {
    writtenAt = now();
    stream.write(`${line(width())}\n`);
  };
  return {
    update(line) {
      if (isTerminal) draw((shown = line));
      else if (now() - writtenAt >= betweenLinesMs) write(line);
    },
    remark(text) {
      stream.write(isTerminal ? `\r\u001b[2K${text}\n` : `${text}\n`);
      if (isTerminal && shown) draw(shown);
    },
    finish(line) {
      if (isTerminal) draw(line);
      else write(line);
      if (isTerminal) stream.write('\n');
    },
  };
}

/** A bar of `cells` cells, e.g. `██████░░░░`; full only when all is done. */
export function drawBar(done: number, total: number, cells: number): string {
  const filled = total === 0 ? cells : Math.min(cells, Math.floor((done / total) * cells));
  return '█'.repeat(filled) + '░'.repeat(cells - filled);
}

/** Percent of a total, 100 only when all is done. */
export function percentOf(done: number, total: number): number {
  return total === 0 ? 100 : Math.min(100, Math.floor((done / total) * 100));
}

/** The bar takes what the facts leave of the width. */
export function barWithFacts(
  share: { readonly done: number; readonly total: number },
  facts: string,
  width: number,
): string {
  const { done, total } = share;
  const tail = `${String(percentOf(done, total)).padStart(3)} %  ${facts}`;
  const cells = Math.min(40, width - displayWidth(tail) - 1);
  return cells < 5 ? tail : `${drawBar(done, total, cells)} ${tail}`;
}
