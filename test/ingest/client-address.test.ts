/** Whose address counts: what proxies add is believed of those that are trusted, from the near end on, and of nobody else. */
import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { test } from 'node:test';
import { createForwarding, type TrustedProxies } from '../../src/ingest/client-address.ts';

function requestOf(remoteAddress: string | undefined, headers: Record<string, string>): IncomingMessage {
  return { socket: { remoteAddress }, headers } as unknown as IncomingMessage;
}

function addressOf(trusted: TrustedProxies, socket: string | undefined, forwarded?: string): string | null {
  const headers = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded };
  return createForwarding(trusted).addressOf(requestOf(socket, headers));
}

test('without a trusted proxy it is the address of the connection, whatever a header says', () => {
  assert.equal(addressOf(0, '5.5.5.5', '1.1.1.1'), '5.5.5.5');
  assert.equal(addressOf(0, '::ffff:5.5.5.5'), '5.5.5.5');
  assert.equal(addressOf(0, '2001:db8::5'), '2001:db8::5');
  assert.equal(addressOf(0, undefined), null);
  assert.equal(addressOf([], '5.5.5.5', '1.1.1.1'), '5.5.5.5');
});

test('a number of proxies is counted from the near end, so that what the client wrote itself is not reached', () => {
  assert.equal(addressOf(1, '10.0.0.1', '1.1.1.1'), '1.1.1.1');
  assert.equal(addressOf(1, '10.0.0.1', '6.6.6.6, 1.1.1.1'), '1.1.1.1');
  assert.equal(addressOf(2, '10.0.0.1', '6.6.6.6, 1.1.1.1,10.0.0.2'), '1.1.1.1');
  assert.equal(addressOf(3, '10.0.0.1', '1.1.1.1'), '1.1.1.1');
  assert.equal(addressOf(1, '10.0.0.1'), '10.0.0.1');
});

test('with a list the first address from the near end that is not on it is the client', () => {
  const trusted = ['10.0.0.0/8', '127.0.0.1', 'fd00::/8'];
  assert.equal(addressOf(trusted, '127.0.0.1', '6.6.6.6, 1.1.1.1, 10.9.9.9'), '1.1.1.1');
  assert.equal(addressOf(trusted, '::ffff:10.0.0.1', '1.1.1.1'), '1.1.1.1');
  assert.equal(addressOf(trusted, 'fd00::1', '2001:db8::7'), '2001:db8::7');
  assert.equal(addressOf(trusted, '9.9.9.9', '1.1.1.1'), '9.9.9.9');
  assert.equal(addressOf(trusted, '10.0.0.1', '10.0.0.3, 10.0.0.2'), '10.0.0.3');
});

test('ports and brackets are taken off; what is no address is none', () => {
  assert.equal(addressOf(1, '10.0.0.1', '1.1.1.1:5678'), '1.1.1.1');
  assert.equal(addressOf(1, '10.0.0.1', '[2001:db8::7]:443'), '2001:db8::7');
  for (const wrong of ['unknown', '_hidden', '1.1.1', '<script>', ',', '999.1.1.1'])
    assert.equal(addressOf(1, '10.0.0.1', wrong), null, wrong);
});

test('host and protocol are those that a trusted proxy passes on, else those of the request', () => {
  const headers = {
    host: 'inner:8080',
    'x-forwarded-host': 'events.example.com',
    'x-forwarded-proto': 'https',
  };
  const request = requestOf('10.0.0.1', headers);
  const near = createForwarding(['10.0.0.0/8']);
  assert.deepEqual([near.hostOf(request), near.protocolOf(request)], ['events.example.com', 'https']);
  const none = createForwarding(0);
  assert.deepEqual([none.hostOf(request), none.protocolOf(request)], ['inner:8080', null]);
});
