/**
 * Whose address an event gets. A browser or a phone does not know its own, so it is written into the context, as
 * Segment does and like Segment for IPv4 only; of a server's call it would say where the server stands, not the user.
 */

/** Who sent a request. */
export interface Client {
  /** A browser or a phone, and not a server that speaks for others. */
  readonly onDevice: boolean;
  /** Null when it is not known. */
  readonly address: () => string | null;
}

export const unknownClient: Client = { onDevice: false, address: () => null };

type Fields = Readonly<Record<string, unknown>>;

/** What SDKs for devices call themselves, where their requests look like a server's. */
const deviceLibraries: ReadonlySet<unknown> = new Set([
  'analytics.js',
  'analytics-android',
  'analytics-ios',
  'analytics-kotlin',
  'analytics-swift',
  'analytics-react-native',
  'analytics-flutter',
  'RudderLabs JavaScript SDK',
]);

/**
 * The address to be written into an event's context; null when it has one, or should not have one.
 * `shared` is the context of the batch, under the event's own.
 */
export function addressToAdd(event: Fields, shared: Fields | null, client: Client): string | null {
  const own = event['context'];
  if (holds(own, 'ip') || holds(shared, 'ip')) return null;
  if (!client.onDevice && !isOfDevice(event, shared)) return null;
  const address = client.address();
  return address !== null && address.includes(':') ? null : address;
}

function isOfDevice(event: Fields, shared: Fields | null): boolean {
  const own = event['context'];
  const { channel } = event;
  if (channel === 'web' || channel === 'mobile') return true;
  const direct = valueOf(own, 'direct') ?? valueOf(shared, 'direct');
  if (direct === true) return true;
  const library = valueOf(own, 'library') ?? valueOf(shared, 'library');
  return deviceLibraries.has(valueOf(library, 'name'));
}

function holds(value: unknown, key: string): boolean {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, key);
}

function valueOf(value: unknown, key: string): unknown {
  return holds(value, key) ? (value as Fields)[key] : undefined;
}
