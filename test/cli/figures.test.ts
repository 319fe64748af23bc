/** Figures for people, and CSV for spreadsheets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { csvLines } from '../../src/cli/csv.ts';
import { formatBytes, formatCountOf, formatRate, formatSeconds, formatTime } from '../../src/cli/figures.ts';
import { barWithFacts, drawBar, percentOf } from '../../src/cli/progress-line.ts';

process.env['TZ'] = 'UTC';

test('spans show their two largest units', () => {
  const expected: [number, string][] = [
    [0, '0 s'],
    [0.42, '0.4 s'],
    [12, '12 s'],
    [60, '1 min'],
    [200, '3 min 20 s'],
    [3600, '1 h'],
    [7500, '2 h 5 min'],
    [86_400 * 3 + 3600 * 4 + 59, '3 d 4 h'],
    [3605, '1 h'],
  ];
  for (const [seconds, text] of expected) assert.equal(formatSeconds(seconds), text);
});

test('counts, rates, bytes and times', () => {
  assert.equal(formatCountOf(1, 'event'), '1 event');
  assert.equal(formatCountOf(1240, 'event'), '1,240 events');
  assert.equal(formatRate(0.5), '0.5/s');
  assert.equal(formatRate(1240.4), '1,240/s');
  assert.equal(formatBytes(812), '812 B');
  assert.equal(formatBytes(1_440_000), '1.4 MB');
  assert.equal(formatTime('2026-01-31T09:15:02.123456Z'), '2026-01-31 09:15:02');
  assert.equal(formatTime(null), null);
});

test('a bar is full, and 100 % shown, only when all is done', () => {
  assert.equal(drawBar(0, 10, 4), '░░░░');
  assert.equal(drawBar(999, 1000, 4), '███░');
  assert.equal(percentOf(999, 1000), 99);
  assert.equal(drawBar(1000, 1000, 4), '████');
  assert.equal(percentOf(0, 0), 100);
  assert.equal(barWithFacts({ done: 5, total: 10 }, '5/10', 30), '█████████░░░░░░░░░  50 %  5/10');
  assert.equal(barWithFacts({ done: 5, total: 10 }, '5/10', 12), ' 50 %  5/10');
});

test('CSV quotes what must be, tells null from empty, and disarms formulas', () => {
  const rows = [
    [1, 'a,b', 'say "hi"', null, ''],
    ['=HYPERLINK("x")', '+49 170', '-1.5', '-cmd', { a: 1 }],
  ];
  assert.deepEqual(csvLines(['a', 'b', 'c', 'd', 'e'], rows), [
    'a,b,c,d,e',
    '1,"a,b","say ""hi""",,""',
    `"'=HYPERLINK(""x"")",+49 170,-1.5,'-cmd,"{""a"":1}"`,
  ]);
});
