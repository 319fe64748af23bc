/**
 * The document RudderStack's SDKs load before they send. No destination is listed: those that deliver are
 * Repeater's, and one named here would make the browser SDK fetch its code from RudderStack's CDN. The fields
 * are those that the JavaScript and the mobile SDKs (analytics-js `isValidSourceConfig`, rudder-sdk-kotlin
 * `RudderServerConfigSource`) insist on; reports of errors and metrics to RudderStack are switched off.
 */
import { publicId } from '../lib/ids.ts';

/** Kept by some SDKs to see whether their copy is old; this document never changes. */
const updatedAt = '2026-01-01T00:00:00.000Z';

export function sourceConfig(writeKey: string, sourceId: number): object {
  const id = publicId('src', sourceId);
  return {
    source: {
      id,
      name: id,
      writeKey,
      enabled: true,
      workspaceId: 'repeater',
      config: { statsCollection: { errors: { enabled: false }, metrics: { enabled: false } } },
      connections: [],
      destinations: [],
      updatedAt,
    },
    updatedAt,
  };
}
