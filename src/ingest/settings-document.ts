/**
 * The document analytics.js and the mobile SDKs load before they send. Minimal on purpose: a second
 * integration, an enabled middleware or legacy video would make them fetch code from Segment's CDN, and
 * without the Segment.io entry analytics.js sends the events to Segment.
 */
export function settingsDocument(writeKey: string, host: string): object {
  return {
    integrations: { 'Segment.io': { apiKey: writeKey, apiHost: `${host}/v1` } },
    plan: {
      track: { __default: { enabled: true, integrations: {} } },
      identify: { __default: { enabled: true } },
      group: { __default: { enabled: true } },
    },
    edgeFunction: {},
    middlewareSettings: {},
    enabledMiddleware: {},
    metrics: { sampleRate: 0 },
    legacyVideoPluginsEnabled: false,
    remotePlugins: [],
  };
}
