/**
 * Webhook: each event as it is stored, by POST, signed as Standard Webhooks 1.0.0 wants it
 * (github.com/standard-webhooks/standard-webhooks, spec/standard-webhooks.md, read 2026-11). The id stays over
 * retries and replays, the timestamp is the attempt's, so that a receiver may refuse old signatures.
 */
import { createHmac, createSecretKey, type KeyObject } from 'node:crypto';
import { outcomeOfResponse } from './answers.ts';
import { defineDestination } from './definition.ts';

interface WebhookSettings {
  readonly url: string;
  readonly secret: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutSeconds?: number;
}

const secretPrefix = 'whsec_';
const defaultTimeoutSeconds = 15;

/**
 * The key, once per settings object: settings live as long as the worker's view of the destination. A KeyObject,
 * because given the bytes createHmac makes one for each call: 16 to 28 us instead of 3 to 4.
 */
const keys = new WeakMap<object, KeyObject>();

export default defineDestination({
  slug: 'webhook',
  name: 'Webhook',
  description: 'Sends each event as stored to an HTTP endpoint, signed as Standard Webhooks.',
  docs: [
    {
      url: 'https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md',
      readAt: '2026-11-24',
    },
  ],
  accepts: ['identify', 'track', 'page', 'screen', 'group', 'alias'],
  limits: { concurrency: 256, timeoutMs: defaultTimeoutSeconds * 1_000, batchEvents: 1 },
  replay: {
    oldestEventHours: null,
    honoursEventTime: true,
    dedupeKey: 'webhook-id',
    sideEffects: 'The receiver acts on each event again, unless it looks at webhook-id or x-replay-id.',
  },
  complete: (settings, randomBytes) => ({
    ...settings,
    secret: settings['secret'] ?? `${secretPrefix}${randomBytes(32).toString('base64')}`,
  }),
  async send(events, ctx) {
    const settings = ctx.settings as unknown as WebhookSettings;
    const event = events[0];
    if (!event) return [];
    const id = webhookId(event.messageId);
    const timestamp = Math.floor(ctx.attemptAt / 1_000);
    const response = await ctx.request({
      method: 'POST',
      url: settings.url,
      headers: {
        ...settings.headers,
        'content-type': 'application/json',
        'webhook-id': id,
        'webhook-timestamp': String(timestamp),
        'webhook-signature': sign(keyOf(settings), `${id}.${timestamp}.${event.text}`),
        'x-repeater-position': String(event.position),
        ...(ctx.replayId !== null && { 'x-replay-id': ctx.replayId }),
      },
      body: event.text,
      timeoutMs: (settings.timeoutSeconds ?? defaultTimeoutSeconds) * 1_000,
    });
    return [outcomeOfResponse(response, ctx.attemptAt)];
  },
});

/**
 * The message id as a webhook-id. The signed text is joined by dots, so the id may hold none, and a header takes
 * no other characters than these: anything else is percent-encoded, dots included, and can be decoded again.
 */
export function webhookId(messageId: string): string {
  return /^[\w-]+$/.test(messageId) ? messageId : encodeURIComponent(messageId).replaceAll('.', '%2E');
}

function sign(key: KeyObject, text: string): string {
  return `v1,${createHmac('sha256', key).update(text).digest('base64')}`;
}

function keyOf(settings: WebhookSettings): KeyObject {
  let key = keys.get(settings);
  if (key === undefined) {
    key = createSecretKey(settings.secret.slice(secretPrefix.length), 'base64');
    keys.set(settings, key);
  }
  return key;
}
