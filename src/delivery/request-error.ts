/**
 * Why a request to a destination got no answer. The message is for the customer: it never says whether
 * anything listens behind an address that is blocked, and never holds a header, a body or a query.
 */
export type RequestErrorCode =
  'timeout' | 'blocked_address' | 'dns' | 'connection' | 'aborted' | 'invalid_request';

export class RequestError extends Error {
  readonly code: RequestErrorCode;

  constructor(code: RequestErrorCode, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = 'RequestError';
    this.code = code;
  }
}

/** The same words for every blocked address, so that nothing about the network behind it can be read off. */
export const blockedText = 'The address is private or not allowed for destinations.';

/** undici's and Node's codes, in words. TLS codes are many and are shown as they are. */
const causes: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'The endpoint refused the connection.',
  ECONNRESET: 'The endpoint closed the connection before its answer was complete.',
  EPIPE: 'The endpoint closed the connection before its answer was complete.',
  UND_ERR_SOCKET: 'The endpoint closed the connection before its answer was complete.',
  UND_ERR_CONNECT_TIMEOUT: 'No connection could be made in time.',
  ETIMEDOUT: 'No connection could be made in time.',
  EHOSTUNREACH: 'The endpoint could not be reached.',
  ENETUNREACH: 'The endpoint could not be reached.',
  UND_ERR_HEADERS_OVERFLOW: 'The headers of the answer are too large.',
};

/** What undici, the resolver or the socket reported, as a RequestError. */
export function requestErrorOf(error: unknown): RequestError {
  if (error instanceof RequestError) return error;
  const { code, syscall, name: kind } = error as { code?: unknown; syscall?: unknown; name?: unknown };
  const name = typeof code === 'string' ? code : '';
  if (syscall === 'getaddrinfo')
    return new RequestError('dns', 'The host name could not be resolved.', error);
  if (name === 'UND_ERR_INVALID_ARG' || name === 'UND_ERR_NOT_SUPPORTED') {
    return new RequestError(
      'invalid_request',
      'The request holds a header or a path that is not valid.',
      error,
    );
  }
  // undici's parser leaves out the code where the answer is no HTTP at all.
  if (kind === 'HTTPParserError')
    return new RequestError('connection', 'The answer is not valid HTTP.', error);
  if (/^(ERR_)?(TLS|SSL|CERT|UNABLE_TO|DEPTH_ZERO|SELF_SIGNED|HOSTNAME)/.test(name)) {
    return new RequestError('connection', `The TLS connection could not be made (${name}).`, error);
  }
  return new RequestError('connection', causes[name] ?? 'The connection failed.', error);
}
