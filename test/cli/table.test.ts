/** Tables are aligned, keep to the terminal's width, and show hostile content as text. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { displayWidth } from '../../src/cli/printable.ts';
import { isTooWide, renderFacts, renderRecords, renderTable } from '../../src/cli/table.ts';

const columns = [
  { title: 'id', whole: true },
  { title: 'name' },
  { title: 'count', align: 'right' as const },
];

test('columns are as wide as their widest cell, numbers to the right', () => {
  const rows = [
    ['src_1', 'Web', 5],
    ['src_12', '日本', 1200],
    ['src_3', null, 7],
  ];
  assert.deepEqual(renderTable({ columns, rows, width: null }), [
    'id      name  count',
    '──────  ────  ─────',
    'src_1   Web       5',
    'src_12  日本   1200',
    'src_3   -         7',
  ]);
});

test('cells are cut to the width, ids never', () => {
  const rows = [['dst_123456', 'a name of many words that goes on and on', 12]];
  const lines = renderTable({ columns, rows, width: 30 });
  for (const line of lines) assert.ok(displayWidth(line) <= 30, line);
  assert.match(lines[2] ?? '', /^dst_123456 {2}a name of …/);
  assert.match(renderTable({ columns, rows, width: null })[2] ?? '', /goes on and on/);
});

test('a cell cannot break out of its line', () => {
  const [, , line] = renderTable({ columns, rows: [['a', 'x\n\u001b[31mred\u202e', 1]], width: 80 });
  assert.match(line ?? '', /x\\n\\x1b\[31mred\\u202e/);
});

test('colours do not count as width', () => {
  const styled = [
    { title: 'state', style: (cell: string) => `\u001b[32m${cell}\u001b[39m` },
    { title: 'next' },
  ];
  const lines = renderTable({ columns: styled, rows: [['on', 'a']], width: 80 });
  assert.equal(lines[2], '\u001b[32mon   \u001b[39m  a');
});

test('many columns become records, with every value on a line', () => {
  const many = Array.from({ length: 12 }, (_, index) => ({ title: `column_${index}` }));
  const options = {
    columns: many,
    rows: [many.map((_, index) => `value ${index} ${'x'.repeat(90)}`)],
    width: 80,
  };
  assert.equal(isTooWide(options), true);
  assert.equal(isTooWide({ ...options, width: null }), false);
  assert.equal(isTooWide({ columns, rows: [['a', 'x'.repeat(500), 1]], width: 80 }), false);
  const lines = renderRecords(options);
  assert.equal(lines.length, 13);
  assert.match(lines[12] ?? '', /^column_11 {2}value 11 x+…$/);
  for (const line of lines) assert.ok(displayWidth(line) <= 80, line);
});

test('facts stand under each other and are not cut', () => {
  const lines = renderFacts([
    ['id', 'dst_1'],
    ['paused because', null],
    ['url', `https://example.com/${'x'.repeat(100)}`],
  ]);
  assert.equal(lines[0], 'id              dst_1');
  assert.equal(lines[1], 'paused because  -');
  assert.ok((lines[2] ?? '').length > 120);
});
