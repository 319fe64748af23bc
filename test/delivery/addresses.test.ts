/**
 * Which addresses a destination may have. Refused by its spelling or by what its name resolves to: everything
 * that is not the public internet, in every notation a URL takes.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { isBlockedHost, isPublicAddress } from '../../src/delivery/addresses.ts';
import {
  assertAllowedUrl,
  checkHost,
  parseAllowedUrl,
  type AddressRules,
  type ResolveName,
} from '../../src/delivery/request-address.ts';
import { RequestError } from '../../src/delivery/request-error.ts';
import { AppError } from '../../src/lib/errors.ts';

/** What the resolver of the tests knows. Names of one label resolve to loopback, as in /etc/hosts. */
const names: Readonly<Record<string, readonly string[]>> = {
  'loopback.example': ['127.0.0.1'],
  'mixed.example': ['93.184.215.14', '::1'],
  'metadata.example': ['169.254.169.254'],
  'public.example': ['93.184.215.14', '2606:4700:4700::1111'],
};

const lookup: ResolveName = (hostname, callback) => {
  const addresses = names[hostname] ?? (isPublicAddress(hostname) ? [hostname] : undefined);
  if (!addresses) return callback(Object.assign(new Error('unknown'), { code: 'ENOTFOUND' }), []);
  callback(
    null,
    addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
  );
};

const rules: AddressRules = { allowPrivateAddresses: false, lookup };

/** How a URL is refused when a destination is created: the error's code, or null when it is allowed. */
async function refusal(url: string, by: AddressRules = rules): Promise<string | null> {
  try {
    await checkHost(url, by);
    return null;
  } catch (error) {
    assert.ok(error instanceof AppError, `${url}: ${String(error)}`);
    assert.equal((error.details as { field: string }[])[0]?.field, 'settings.url');
    return error.code;
  }
}

test('addresses inside are refused in every spelling', async () => {
  for (const url of [
    'http://127.0.0.1',
    'http://localhost',
    'http://127.1',
    'http://2130706433',
    'http://0x7f.1',
    'http://0177.0.0.1',
    'http://0',
    'http://[::1]',
    'http://[::]',
    'http://[::ffff:127.0.0.1]',
    'http://[::ffff:a9fe:a9fe]',
    'http://[64:ff9b::7f00:1]',
    'http://[2002:7f00:1::]',
    'http://[fe80::1]',
    'http://[fd00::1]',
    'http://169.254.169.254/latest/meta-data',
    'http://168.63.129.16',
    'http://100.64.0.1',
    'http://10.0.0.1',
    'http://172.16.0.1',
    'http://192.168.0.1',
    'http://198.18.0.1',
    'http://192.0.0.192',
    'http://224.0.0.1',
    'http://240.0.0.1',
    'http://255.255.255.255',
    'http://metadata.google.internal',
    'http://metadata.google.internal.',
    'http://localhost.',
    'http://sub.localhost',
    'http://LOCALHOST',
    'http://ⓛocalhost',
    'http://①②⑦.0.0.1',
    'http://127.0.0.1:5432',
    'https://[::1]:443/',
  ]) {
    assert.throws(() => parseAllowedUrl(url, rules), { code: 'blocked_address' }, url);
    assert.equal(await refusal(url), 'blocked_address', url);
  }
});

test('other schemes and credentials are refused before anything is asked', async () => {
  const asking: AddressRules = {
    allowPrivateAddresses: false,
    lookup: () => assert.fail('the resolver was asked'),
  };
  for (const url of [
    'http://u:p@127.0.0.1',
    'http://u@public.example',
    'file:///etc/passwd',
    'gopher://127.0.0.1:5432/_x',
    'ftp://public.example',
    'javascript:alert(1)',
    '//public.example',
    'public.example',
    'http://',
    'http://1.2.3.4.5',
    'http://[fe80::1%25eth0]',
    '',
  ]) {
    assert.throws(() => parseAllowedUrl(url, asking), { code: 'invalid_request' }, url);
    assert.equal(await refusal(url, asking), 'invalid_request', url);
  }
});

test('names are refused by any of their addresses', async () => {
  for (const name of ['loopback', 'mixed', 'metadata']) {
    // The spelling is innocent: only the resolver can tell.
    assert.equal(parseAllowedUrl(`http://${name}.example`, rules).hostname, `${name}.example`);
    assert.equal(await refusal(`http://${name}.example`), 'blocked_address');
  }
  assert.equal(await refusal('http://unknown.example'), 'invalid_request');
});

test('the public internet is allowed', async () => {
  for (const url of [
    'http://public.example/hook?a=1',
    'https://PUBLIC.example:8443/',
    'http://8.8.8.8',
    'http://172.32.0.1',
    'http://11.0.0.1',
    'https://[2606:4700:4700::1111]/',
    'https://[2a00:1450:4001:81b::200e]/',
  ]) {
    assert.equal(await refusal(url), null, url);
  }
});

test('a resolver that fails for now does not stop the customer', async () => {
  const failing: ResolveName = (_name, callback) =>
    callback(Object.assign(new Error('later'), { code: 'EAI_AGAIN' }), []);
  assert.equal(
    await refusal('http://public.example', { allowPrivateAddresses: false, lookup: failing }),
    null,
  );
});

test('where private addresses are allowed they are, other schemes are not', async () => {
  const open: AddressRules = { allowPrivateAddresses: true, lookup: () => assert.fail('asked') };
  assert.equal(await refusal('http://127.0.0.1:5432', open), null);
  assert.equal(await refusal('http://localhost', open), null);
  assert.equal(await refusal('file:///etc/passwd', open), 'invalid_request');
});

test('a refusal names the setting and is the same for all blocked addresses', () => {
  const said = (url: string) => {
    try {
      assertAllowedUrl(url, rules);
      return '';
    } catch (error) {
      return `${(error as AppError).code} ${(error as AppError).message}`;
    }
  };
  assert.equal(
    said('http://127.0.0.1:5432'),
    'blocked_address settings.url: The address is private or not allowed for destinations.',
  );
  assert.equal(said('http://[fd00::1]'), said('http://127.0.0.1:5432'));
});

/** Ranges of the IANA special-purpose registry that are not to be reached, with the bits that are fixed. */
const privateRanges: readonly [number, number, number][] = [
  [0x00, 0, 8],
  [0x0a, 0, 8],
  [0x64, 0x40, 10],
  [0x7f, 0, 8],
  [0xa9, 0xfe, 16],
  [0xac, 0x10, 12],
  [0xc0, 0xa8, 16],
  [0xc6, 0x12, 15],
  [0xe0, 0, 4],
  [0xf0, 0, 4],
];

const privateIpv4 = fc
  .tuple(fc.constantFrom(...privateRanges), fc.nat(0xffffffff))
  .map(([[first, second, bits], random]) => {
    const base = first * 2 ** 24 + second * 2 ** 16;
    return base + (random % 2 ** (32 - bits));
  });

function octetsOf(number: number): [number, number, number, number] {
  return [number >>> 24, (number >>> 16) & 255, (number >>> 8) & 255, number & 255];
}

/** The notations of an IPv4 address that URLs know. */
const notations: readonly ((number: number) => string)[] = [
  (number) => octetsOf(number).join('.'),
  (number) => String(number),
  (number) => `0x${number.toString(16)}`,
  (number) => `0${number.toString(8)}`,
  (number) =>
    octetsOf(number)
      .map((octet) => `0x${octet.toString(16)}`)
      .join('.'),
  (number) =>
    octetsOf(number)
      .map((octet) => `0${octet.toString(8)}`)
      .join('.'),
  (number) => `${number >>> 24}.${number & 0xffffff}`,
  (number) => `${number >>> 24}.${(number >>> 16) & 255}.${number & 0xffff}`,
  (number) => `${octetsOf(number).join('.')}.`,
];

test('any address of a private range is refused in any notation', () => {
  fc.assert(
    fc.property(privateIpv4, fc.constantFrom(...notations), (number, write) => {
      assert.throws(() => parseAllowedUrl(`http://${write(number)}:8080/x`, rules), {
        code: 'blocked_address',
      });
    }),
    { numRuns: 2_000 },
  );
});

test('an IPv6 address that carries an IPv4 address is refused, whichever it carries', () => {
  fc.assert(
    fc.property(fc.nat(0xffffffff), (number) => {
      const [high, low] = [(number >>> 16).toString(16), (number & 0xffff).toString(16)];
      for (const address of [
        `::ffff:${high}:${low}`,
        `::${high}:${low}`,
        `64:ff9b::${high}:${low}`,
        `64:ff9b:1::${high}:${low}`,
        `2002:${high}:${low}::`,
        `2001:0:${high}:${low}::`,
      ]) {
        assert.equal(isPublicAddress(address), false, address);
        assert.equal(isBlockedHost(`[${address}]`), true, address);
      }
    }),
  );
});

test('what is no address, or not one of the internet, is not public', () => {
  for (const text of [
    '',
    'localhost',
    '::g',
    '2001:db8::1',
    '3fff::1',
    '5f00::1',
    'ff02::1',
    'fec0::1',
    '100::1',
    '2001:2::1',
    '192.0.2.1',
    '198.51.100.1',
    '203.0.113.1',
    '192.88.99.1',
  ]) {
    assert.equal(isPublicAddress(text), false, text);
  }
});

test('parsing a URL ends in a URL or a RequestError, whatever the text', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.webUrl(),
        fc.string().map((text) => `http://${text}`),
      ),
      (text) => {
        try {
          assert.ok(parseAllowedUrl(text, rules) instanceof URL);
        } catch (error) {
          assert.ok(error instanceof RequestError, String(error));
        }
      },
    ),
    { numRuns: 1_000 },
  );
});
