/**
 * Which addresses a destination may have: only those of the public internet. The rule allows what is known
 * to be public instead of listing what is not, so that a spelling or a range nobody thought of is refused.
 * Kept current with the IANA special-purpose registries through ipaddr.js.
 */
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

/**
 * Public by number, internal by use: Azure's host agent answers there from inside every virtual machine
 * (https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16, read 2026-11).
 */
const internalByUse = [ipaddr.IPv4.parseCIDR('168.63.129.16/32')];

/** All public IPv6 addresses there are (RFC 4291, section 2.4); leaves out `::/96` and whatever is unassigned. */
const globalUnicast = ipaddr.IPv6.parseCIDR('2000::/3');

/** Names that mean this machine or its cloud's metadata, also where the resolver does not know them. */
const internalNames = new Set(['localhost', 'metadata.google.internal', 'metadata.goog']);

/** True for an address of the public internet. IPv6 forms that carry an IPv4 address are all refused. */
export function isPublicAddress(address: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  const parsed = ipaddr.parse(address);
  if (parsed.range() !== 'unicast') return false;
  return parsed instanceof ipaddr.IPv4
    ? !internalByUse.some((range) => parsed.match(range))
    : parsed.match(globalUnicast);
}

/** True when a URL's host name (as `new URL` writes it) can be refused without asking the resolver. */
export function isBlockedHost(hostname: string): boolean {
  const host = bareHost(hostname);
  if (isIP(host) !== 0) return !isPublicAddress(host);
  const name = host.replace(/\.+$/, '');
  return internalNames.has(name) || name.endsWith('.localhost');
}

/** The host without the brackets of an IPv6 literal, as sockets want it. */
export function bareHost(hostname: string): string {
  return hostname.startsWith('[') ? hostname.slice(1, -1) : hostname;
}
