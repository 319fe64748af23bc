/**
 * Text from events and servers, made fit for a terminal. Promises that no control character, no escape
 * sequence and no invisible or direction-changing character gets through (an event's name could otherwise
 * rewrite the screen or a copied command), and that widths count what a terminal draws: two cells for
 * East Asian wide characters and emoji, none for combining marks.
 */

const ascii = /^[\x20-\x7e]*$/;
/** Controls, line separators, direction marks, byte-order mark, tags, lone surrogates. The joiner of emoji stays. */
const hidden =
  /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
const shortEscapes: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/** The text on one line, hidden characters written as `\n`, `\x1b` or `\u202e`. */
export function printable(text: string): string {
  return ascii.test(text) ? text : text.replaceAll(hidden, escapeCharacter);
}

function escapeCharacter(character: string): string {
  const short = shortEscapes[character];
  if (short !== undefined) return short;
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x100) return `\\x${code.toString(16).padStart(2, '0')}`;
  return code > 0xffff ? `\\u{${code.toString(16)}}` : `\\u${code.toString(16).padStart(4, '0')}`;
}

/** JSON of a value on one line, or indented; hidden characters are escaped as JSON escapes them, so it stays JSON. */
export function printableJson(value: unknown, indent?: number): string {
  const text = JSON.stringify(value, null, indent) ?? 'null';
  // Outside of strings JSON has no such character but the line ends of its own indentation.
  return text.replaceAll(hidden, (character) =>
    character === '\n'
      ? character
      : character
          .split('')
          .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
          .join(''),
  );
}

const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });
const joinedEmoji = /\p{Emoji_Presentation}|\p{Regional_Indicator}|\ufe0f/u;
const weightless = /^[\p{M}\u200c\u200d]/u;

/** Ranges of Unicode's East Asian Width W and F, without the emoji, which `joinedEmoji` finds. */
const wideRanges: readonly (readonly [first: number, last: number])[] = [
  [0x1100, 0x115f],
  [0x2e80, 0x303e],
  [0x3041, 0x4dbf],
  [0x4e00, 0xa4cf],
  [0xa960, 0xa97c],
  [0xac00, 0xd7a3],
  [0xf900, 0xfaff],
  [0xfe10, 0xfe19],
  [0xfe30, 0xfe6b],
  [0xff01, 0xff60],
  [0xffe0, 0xffe6],
  [0x16fe0, 0x18cff],
  [0x1b000, 0x1b2ff],
  [0x20000, 0x3fffd],
];

/** Cells that a terminal draws for printable text. */
export function displayWidth(text: string): number {
  if (ascii.test(text)) return text.length;
  let width = 0;
  for (const { segment } of graphemes.segment(text)) width += graphemeWidth(segment);
  return width;
}

function graphemeWidth(grapheme: string): number {
  if (weightless.test(grapheme)) return 0;
  if (joinedEmoji.test(grapheme)) return 2;
  const code = grapheme.codePointAt(0) ?? 0;
  return wideRanges.some(([first, last]) => code >= first && code <= last) ? 2 : 1;
}

/** The text in at most `width` cells; what was cut ends in `…`. */
export function cutToWidth(text: string, width: number): string {
  if (width <= 0) return '';
  if (ascii.test(text)) return text.length <= width ? text : `${text.slice(0, width - 1)}…`;
  // Kept up to here if the text turns out too long: one cell less, for the ellipsis.
  let shorter = '';
  let kept = '';
  let used = 0;
  for (const { segment } of graphemes.segment(text)) {
    const next = graphemeWidth(segment);
    if (used + next > width) return `${shorter}…`;
    used += next;
    kept += segment;
    if (used <= width - 1) shorter = kept;
  }
  return text;
}

/**
 * The text in lines of at most `width` cells, broken at spaces; null: in one line. Lines after the first begin
 * with `hanging`, and a word longer than a line stays whole, to be copied.
 */
export function wrapWords(text: string, width: number | null, hanging = ''): string[] {
  if (width === null || displayWidth(text) <= width) return [text];
  const lines: string[] = [];
  const [, first = '', rest = ''] = /^( *\S*)(.*)$/s.exec(text) ?? [];
  let line = first;
  for (const word of rest.split(' ').slice(1)) {
    if (displayWidth(line) + 1 + displayWidth(word) <= width) line += ` ${word}`;
    else {
      lines.push(line);
      line = hanging + word;
    }
  }
  return [...lines, line];
}

/** The text filled up with spaces to `width` cells; longer text stays as it is. */
export function padTo(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  const spaces = ' '.repeat(Math.max(0, width - displayWidth(text)));
  return align === 'right' ? spaces + text : text + spaces;
}
