/**
 * The document analytics.js and the mobile SDKs load before they send. Minimal on purpose: a second
 * integration, an enabled middleware or legacy video would make them fetch code from Segment's CDN, and
 * without the Segment.io entry analytics.js sends the events to Segment.
 */

/** How the client called this server; the protocol is null where nobody said. */
interface Origin {
  readonly host: string;
  readonly protocol: string | null;
}

export function settingsDocument(writeKey: string, origin: Origin): object {
  return {
    integrations: {
      'Segment.io': {
        apiKey: writeKey,
        apiHost: `${origin.host}/v1`,
        ...(speaksPlainHttp(origin) ? { protocol: 'http' } : {}),
      },
    },
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

/**
 * analytics.js takes https unless it is told otherwise. Only on the developer's own machine is plain HTTP sure:
 * elsewhere a TLS front may be there that said nothing, and a page of https may not call http.
 */
function speaksPlainHttp({ host, protocol }: Origin): boolean {
  if (protocol !== null) return protocol.toLowerCase() === 'http';
  return /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?$/i.test(host);
}
