/** Nothing that events hold can drive a terminal, and widths are what terminals draw. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { cutToWidth, displayWidth, padTo, printable, printableJson } from '../../src/cli/printable.ts';

test('escape sequences, line ends and direction marks become visible text', () => {
  assert.equal(printable('a\u001b[2Jb'), 'a\\x1b[2Jb');
  assert.equal(printable('\u009b31m'), '\\x9b31m');
  assert.equal(printable('one\ntwo\r\tthree'), 'one\\ntwo\\r\\tthree');
  assert.equal(printable('safe\u202egpj.exe'), 'safe\\u202egpj.exe');
  assert.equal(printable('a\u200bb\ufeff\u2028'), 'a\\u200bb\\ufeff\\u2028');
  assert.equal(printable('\ud800x'), '\\ud800x');
  assert.equal(printable('\u{e0041}'), '\\u{e0041}');
  assert.equal(printable('Zoë 日本 👩‍👩‍👧'), 'Zoë 日本 👩‍👩‍👧');
});

test('no text leaves a control character', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.doesNotMatch(printable(text), /[\p{Cc}\u202a-\u202e\u2066-\u2069]/u);
    }),
  );
});

test('JSON stays the same JSON', () => {
  const value = { text: 'a\u001b[0m\u009b\u202e\u{e0041} "q"', list: [1, null] };
  for (const indent of [undefined, 2]) {
    const text = printableJson(value, indent);
    assert.deepEqual(JSON.parse(text), value);
    assert.doesNotMatch(text.replaceAll('\n', ''), /[\p{Cc}\u202e\u{e0041}]/u);
  }
});

test('widths are cells', () => {
  const expected: [string, number][] = [
    ['abc', 3],
    ['Zoë', 3],
    ['Zoe\u0308', 3],
    ['日本語', 6],
    ['ｆｕｌｌ', 8],
    ['한국', 4],
    ['👍', 2],
    ['👩‍👩‍👧', 2],
    ['🇩🇪', 2],
    ['❤️', 2],
    ['…', 1],
    ['', 0],
  ];
  for (const [text, width] of expected) assert.equal(displayWidth(text), width, text);
});

test('cutting keeps to the width and never splits a character', () => {
  assert.equal(cutToWidth('abcdef', 4), 'abc…');
  assert.equal(cutToWidth('abcd', 4), 'abcd');
  assert.equal(cutToWidth('日本語', 4), '日…');
  assert.equal(cutToWidth('日本語', 5), '日本…');
  assert.equal(cutToWidth('日本語', 6), '日本語');
  assert.equal(cutToWidth('abc', 0), '');
  fc.assert(
    fc.property(fc.string({ unit: 'grapheme' }), fc.integer({ min: 0, max: 30 }), (raw, width) => {
      const text = printable(raw);
      const cut = cutToWidth(text, width);
      assert.ok(displayWidth(cut) <= width, `${JSON.stringify(cut)} in ${width}`);
      if (displayWidth(text) <= width) assert.equal(cut, text);
      else assert.ok(width === 0 || cut.endsWith('…'));
    }),
  );
});

test('padding fills cells, not characters', () => {
  assert.equal(padTo('日本', 6), '日本  ');
  assert.equal(padTo('7', 3, 'right'), '  7');
  assert.equal(padTo('long', 2), 'long');
});
