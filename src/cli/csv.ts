/**
 * CSV by RFC 4180. Cells that a spreadsheet would run as a formula (event content comes from anybody) are led
 * by an apostrophe; numbers and telephone numbers are none. Null is an empty field, an empty text is `""`.
 */

/** The lines of a table, the names of the columns first. */
export function csvLines(columns: readonly string[], rows: readonly (readonly unknown[])[]): string[] {
  return [columns, ...rows].map((row) => row.map(field).join(','));
}

function field(value: unknown): string {
  if (value === null || value === undefined) return '';
  const text = harmless(typeof value === 'string' ? value : JSON.stringify(value));
  return text === '' || /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function harmless(text: string): string {
  const isFormula = /^[=@\t\r]/.test(text) || (/^[+-]/.test(text) && !/^[+-][\d .,()e+-]*$/i.test(text));
  return isFormula ? `'${text}` : text;
}
