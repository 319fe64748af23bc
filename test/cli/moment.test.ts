/** Times as people type them, read in a zone that has daylight saving time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { momentForms, parseMoment } from '../../src/cli/moment.ts';

process.env['TZ'] = 'Europe/Berlin';
const now = new Date('2026-11-24T08:30:15.250Z');

test('reads every form', () => {
  const expected: Record<string, string> = {
    now: '2026-11-24T08:30:15.250Z',
    today: '2026-11-23T23:00:00.000Z',
    yesterday: '2026-11-22T23:00:00.000Z',
    Tomorrow: '2026-11-24T23:00:00.000Z',
    'yesterday 14:30': '2026-11-23T13:30:00.000Z',
    'today at 9:05:10': '2026-11-24T08:05:10.000Z',
    '24h ago': '2026-11-23T08:30:15.250Z',
    '24h': '2026-11-23T08:30:15.250Z',
    '90 minutes ago': '2026-11-24T07:00:15.250Z',
    '1.5h': '2026-11-24T07:00:15.250Z',
    '7 days ago': '2026-11-17T08:30:15.250Z',
    '2w': '2026-11-10T08:30:15.250Z',
    '2026-01-31': '2026-01-30T23:00:00.000Z',
    '2026-07-31': '2026-07-30T22:00:00.000Z',
    '2026-01-31T09:15': '2026-01-31T08:15:00.000Z',
    '2026-01-31 09:15:30': '2026-01-31T08:15:30.000Z',
    '2026-01-31T09:15:00Z': '2026-01-31T09:15:00.000Z',
    '2026-01-31T09:15:00+05:30': '2026-01-31T03:45:00.000Z',
    '2026-01-31T09:15+0530': '2026-01-31T03:45:00.000Z',
    '2026-01-31T09:15:00.123456Z': '2026-01-31T09:15:00.123456Z',
    '2024-02-29': '2024-02-28T23:00:00.000Z',
  };
  for (const [text, instant] of Object.entries(expected)) assert.equal(parseMoment(text, now), instant, text);
});

test('a day is the calendar day, also when it has 23 or 25 hours; "24h ago" is 24 hours', () => {
  const dayOfChange = new Date('2026-10-25T12:00:00Z');
  assert.equal(parseMoment('today', dayOfChange), '2026-10-24T22:00:00.000Z');
  assert.equal(parseMoment('tomorrow', dayOfChange), '2026-10-25T23:00:00.000Z');
  assert.equal(parseMoment('24h ago', dayOfChange), '2026-10-24T12:00:00.000Z');
});

test('refuses what is no time', () => {
  const wrong = [
    '',
    'yesterdayy',
    '2026-02-30',
    '2026-13-01',
    '2026-01-31T24:00',
    '2026-01-31T09:60',
    '24',
    'h',
    '5 months',
  ];
  for (const text of [...wrong, 'yesterday 25:00', '1999-1-1', '2026-01-31Z', '-3h', '31.01.2026']) {
    assert.equal(parseMoment(text, now), null, text);
  }
});

test('the forms named in help and errors are read', () => {
  for (const form of momentForms.split(', '))
    assert.notEqual(parseMoment(form.replaceAll('"', ''), now), null, form);
});

test('an instant written as ISO 8601 comes back unchanged', () => {
  fc.assert(
    fc.property(fc.date({ min: new Date(0), max: new Date('2100-01-01'), noInvalidDate: true }), (date) => {
      assert.equal(parseMoment(date.toISOString(), now), date.toISOString());
    }),
  );
});
