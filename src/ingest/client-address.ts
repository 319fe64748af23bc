/**
 * Who is at the other end, when there may be proxies between: what they add is believed of proxies that the
 * configuration trusts, and of nobody else, since any client can write the same headers.
 */
import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { BlockList, isIP } from 'node:net';

/** A number of proxies in front, or their addresses and networks (`10.0.0.0/8`). */
export type TrustedProxies = number | readonly string[];

/** Reads what trusted proxies say of a request. */
export interface Forwarding {
  /** The client's address; null where there is none or it is no address. An IPv4 one in IPv6 is written as IPv4. */
  addressOf(request: IncomingMessage): string | null;
  /** The name by which the client called this server, e.g. `events.example.com` or `localhost:8080`. */
  hostOf(request: IncomingMessage): string;
  /** What the client spoke, as far as a trusted proxy said so. */
  protocolOf(request: IncomingMessage): string | null;
}

export function createForwarding(trusted: TrustedProxies): Forwarding {
  const isTrusted = typeof trusted === 'number' ? (_: string, hop: number) => hop < trusted : listOf(trusted);
  const told = (request: IncomingMessage, name: string): string | null => {
    const text = textOf(request.headers, name);
    return text !== null && isTrusted(plainAddress(request.socket.remoteAddress ?? '') ?? '', 0)
      ? (text.split(',', 1)[0] as string).trim()
      : null;
  };
  return {
    addressOf(request) {
      const near = plainAddress(request.socket.remoteAddress ?? '');
      const forwarded = textOf(request.headers, 'x-forwarded-for');
      if (forwarded === null || near === null || !isTrusted(near, 0)) return near;
      // Each proxy adds at the right whom it was called by: the first one from there that is no proxy of ours is the client.
      const chain = forwarded.split(',');
      for (let hop = 1; ; hop++) {
        const address = plainAddress((chain.pop() ?? '').trim());
        if (address === null || chain.length === 0 || !isTrusted(address, hop)) return address;
      }
    },
    hostOf: (request) => told(request, 'x-forwarded-host') ?? request.headers.host ?? 'localhost',
    protocolOf: (request) => told(request, 'x-forwarded-proto'),
  };
}

function listOf(networks: readonly string[]): (address: string) => boolean {
  const list = new BlockList();
  for (const network of networks) {
    const [address = '', bits] = network.split('/', 2);
    const family = isIP(address) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(address, family);
    else list.addSubnet(address, Number(bits), family);
  }
  return (address) => isIP(address) !== 0 && list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}

function textOf(headers: IncomingHttpHeaders, name: string): string | null {
  const value = headers[name];
  const text = Array.isArray(value) ? value.join(',') : value;
  return text === undefined || text === '' ? null : text;
}

/** `::ffff:1.2.3.4`, `1.2.3.4:5678` and `[::1]:80` without what is around the address; null when it is none. */
function plainAddress(text: string): string | null {
  const bare = /^\[([^\]]+)\](?::\d+)?$/.exec(text)?.[1] ?? text.replace(/^(\d+(?:\.\d+){3}):\d+$/, '$1');
  const address = /^::ffff:(\d+(?:\.\d+){3})$/i.exec(bare)?.[1] ?? bare;
  return isIP(address) === 0 ? null : address;
}
