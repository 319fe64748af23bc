/**
 * Ids, keys and the lane hash. Lanes are fixed when an installation is made: changing `lanesCount` or
 * `laneOf` would send a user's later events through another lane than the earlier ones and break order.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';

declare const brand: unique symbol;
type Branded<Base, Name extends string> = Base & { readonly [brand]: Name };

/** Whose event it is, the unit of order: `u:<userId>`, or `a:<anonymousId>` while nobody is known. */
export type UserKey = Branded<string, 'UserKey'>;

/** Number of lanes of an installation. */
export const lanesCount = 32;

/** Length limit, in UTF-16 units, of the id part of a user key; the schemas refuse longer ids. */
export function userKeyOf(userId: string | null, anonymousId: string | null): UserKey {
  return (userId !== null ? `u:${userId}` : `a:${anonymousId ?? ''}`) as UserKey;
}

/** The lane (0 to 31) of a user key: FNV-1a over its UTF-16 units, then murmur3's finalizer to spread short keys. */
export function laneOf(userKey: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < userKey.length; index++) {
    hash = Math.imul(hash ^ userKey.charCodeAt(index), 0x01000193);
  }
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) & (lanesCount - 1);
}

/** A write key: 32 characters, public by nature, it can only append. */
export function newWriteKey(): string {
  return randomBytes(24).toString('base64url');
}

/** An admin token: `rpt_` and 256 random bits. */
export function newAdminToken(): string {
  return `rpt_${randomBytes(32).toString('base64url')}`;
}

/** Public ids are the row's number with a prefix: `src_1`, `dst_4`, `rpl_12`. */
export type IdPrefix = 'src' | 'dst' | 'rpl';

/** Writes a public id. */
export function publicId(prefix: IdPrefix, id: number): string {
  return `${prefix}_${id}`;
}

/** Reads a public id; null when it is not one of this kind. */
export function parsePublicId(prefix: IdPrefix, text: string): number | null {
  const match = /^([a-z]{3})_([1-9]\d{0,8})$/.exec(text);
  return match && match[1] === prefix ? Number(match[2]) : null;
}

/** Compares two secrets in constant time, whatever their lengths, through their digests. */
export function secretsEqual(left: string, right: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(left), digest(right));
}
