/**
 * Checks where a request may go: scheme, credentials, host, and every address the host's name has. Names
 * are resolved once per connection and the connection is made to what was checked, so an answer that
 * changes in between (DNS rebinding) changes nothing.
 */
import { lookup as systemLookup, type LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { AppError } from '../lib/errors.ts';
import { bareHost, isBlockedHost, isPublicAddress } from './addresses.ts';
import { blockedText, RequestError } from './request-error.ts';

/** Resolves a name to all its addresses; `dns.lookup` unless a test says otherwise. */
export type ResolveName = (
  hostname: string,
  callback: (error: Error | null, addresses: readonly LookupAddress[]) => void,
) => void;

export interface AddressRules {
  /** For tests and for installations whose destinations are inside: nothing is checked then. */
  readonly allowPrivateAddresses: boolean;
  readonly lookup?: ResolveName;
}

const resolveBySystem: ResolveName = (hostname, callback) => {
  systemLookup(hostname, { all: true }, callback);
};

/** A URL that may be requested as far as can be said without the resolver. @throws RequestError */
export function parseAllowedUrl(text: string, rules: AddressRules): URL {
  if (!URL.canParse(text)) throw new RequestError('invalid_request', 'The URL is not valid.');
  const url = new URL(text);
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new RequestError('invalid_request', 'The URL must begin with http:// or https://.');
  }
  if (url.username !== '' || url.password !== '') {
    throw new RequestError('invalid_request', 'The URL must not hold a user name or a password.');
  }
  if (!rules.allowPrivateAddresses && isBlockedHost(url.hostname)) {
    throw new RequestError('blocked_address', blockedText);
  }
  return url;
}

/** The lookup for sockets: resolves once, checks every address, hands on only what it checked. */
export function checkedLookup(rules: AddressRules): LookupFunction {
  const resolve = rules.lookup ?? resolveBySystem;
  return (hostname, options, callback) => {
    resolve(hostname, (error, addresses) => {
      const [first] = addresses ?? [];
      if (error) return callback(error, '', 0);
      if (!first) return callback(new RequestError('dns', 'The host name has no address.'), '', 0);
      // One bad address among good ones is refused as a whole: a name that mixes them is an attack or a mistake.
      if (!rules.allowPrivateAddresses && !addresses.every(({ address }) => isPublicAddress(address))) {
        return callback(new RequestError('blocked_address', blockedText), '', 0);
      }
      if (options.all) return callback(null, [...addresses]);
      return callback(null, first.address, first.family);
    });
  };
}

/**
 * Refuses a URL in a destination's settings by its spelling alone.
 * @throws AppError invalid_request, blocked_address; both name `settings.url`
 */
export function assertAllowedUrl(text: string, rules: AddressRules): URL {
  try {
    return parseAllowedUrl(text, rules);
  } catch (error) {
    throw asAppError(error);
  }
}

/**
 * As `assertAllowedUrl`, and asks the resolver for the addresses. A resolver that fails for now does not
 * stop the customer: every delivery checks again.
 * @throws AppError invalid_request, blocked_address; both name `settings.url`
 */
export async function checkHost(text: string, rules: AddressRules): Promise<void> {
  const url = assertAllowedUrl(text, rules);
  if (rules.allowPrivateAddresses) return;
  const lookup = checkedLookup(rules);
  await new Promise<void>((done, fail) => {
    lookup(bareHost(url.hostname), { all: true }, (error) => {
      if (error instanceof RequestError) fail(asAppError(error));
      else if (error?.code === 'ENOTFOUND') fail(problem('a host name that can be resolved', error));
      else done();
    });
  });
}

function asAppError(error: unknown): unknown {
  if (!(error instanceof RequestError)) return error;
  if (error.code !== 'blocked_address') return problem('an http or https address without credentials', error);
  const expected = 'a public address (ALLOW_PRIVATE_DESTINATIONS=true allows any)';
  const details = [{ field: 'settings.url', expected }];
  return new AppError('blocked_address', { message: `settings.url: ${blockedText}`, details, cause: error });
}

function problem(expected: string, cause: unknown): AppError {
  const details = [{ field: 'settings.url', expected }];
  return new AppError('invalid_request', { message: `settings.url: expected ${expected}.`, details, cause });
}
