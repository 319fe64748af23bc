/**
 * Every error this program answers with, in one catalogue: code, HTTP status, public text.
 * The code is the contract (clients and docs/errors.md name it); the text may be refined. A broken
 * promise that has no entry here is a bug and becomes `internal_error`, with details in the log only.
 */

const catalogue = {
  invalid_json: [400, 'The request body is not valid JSON.'],
  invalid_encoding: [400, 'The request body could not be decoded.'],
  invalid_request: [400, 'The request is not valid.'],
  invalid_event: [400, 'The event is not valid.'],
  event_too_large: [400, 'The event is larger than the limit.'],
  body_too_large: [400, 'The request body is larger than the limit.'],
  batch_too_long: [400, 'The batch holds more events than the limit.'],
  too_deep: [400, 'The JSON is nested deeper than the limit.'],
  number_out_of_range: [400, 'A number cannot be stored without changing it.'],
  unknown_write_key: [401, 'The write key is unknown.'],
  unauthorized: [401, 'A valid admin token is required: Authorization: Bearer <ADMIN_TOKEN>.'],
  not_found: [404, 'There is nothing here.'],
  method_not_allowed: [405, 'This method is not allowed here.'],
  conflict: [409, 'The request conflicts with the current state.'],
  blocked_address: [
    400,
    'The address is private or not allowed for destinations; ALLOW_PRIVATE_DESTINATIONS=true allows it.',
  ],
  reload_failed: [500, 'The new process did not start; the one before goes on.'],
  query_failed: [400, 'The query failed.'],
  rate_limited: [429, 'Too many requests.'],
  overloaded: [503, 'The server is busy; try again shortly.'],
  storage_unavailable: [503, 'The event store is unavailable; try again shortly.'],
  internal_error: [500, 'Something went wrong on this server.'],
} as const satisfies Record<string, readonly [number, string]>;

export type ErrorCode = keyof typeof catalogue;

/** All codes with status and text, for the documentation and the test that compares the two. */
export const errorCatalogue: Readonly<Record<ErrorCode, readonly [status: number, text: string]>> = catalogue;

interface AppErrorOptions {
  /** Public text instead of the catalogue's; it names the field and what was expected. */
  message?: string;
  /** Public, machine-readable detail, e.g. `[{ field, expected }]`. */
  details?: unknown;
  /** For 429 and 503: when to come back, in seconds. */
  retryAfterSeconds?: number;
  cause?: unknown;
}

/** An error with a public face: `code`, `status`, `message` and `details` may be shown to the caller. */
export class AppError extends Error {
  readonly code: ErrorCode;
  readonly status: number;
  readonly details: unknown;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, options: AppErrorOptions = {}) {
    super(options.message ?? catalogue[code][1], { cause: options.cause });
    this.name = 'AppError';
    this.code = code;
    this.status = catalogue[code][0];
    this.details = options.details;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** What was thrown, as an Error: JavaScript can throw anything. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
