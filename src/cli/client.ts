/**
 * The admin API as commands use it. Promises that what comes back is the API's answer: refusals become
 * ApiError, and when nothing answers, or something that is not Repeater, a CommandError says so and what to
 * do. The token kept in DATA_DIR is only ever sent to the server it belongs to.
 */
import type { ClientConfig } from '../config/env.ts';
import { ApiError, CommandError, UsageError } from './failure.ts';
import { type InstallationFile, installationFilePath, readInstallationFile } from './installation-file.ts';

/** Values of a query string; undefined is left out, a list is repeated. */
export type Query = Readonly<Record<string, string | number | readonly string[] | undefined>>;

export interface OpenOptions {
  readonly query?: Query;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

export interface Client {
  /** `http://host:port`, without a slash at the end. */
  readonly baseUrl: string;
  get<Answer>(path: string, query?: Query): Promise<Answer>;
  post<Answer>(path: string, body?: unknown): Promise<Answer>;
  patch<Answer>(path: string, body: unknown): Promise<Answer>;
  delete(path: string): Promise<void>;
  /** All items of a list, page after page, or the first `limit`. */
  list<Item>(path: string, query?: Query, limit?: number): Promise<Item[]>;
  /** An answer to read as it comes; no time limit. */
  open(path: string, options?: OpenOptions): Promise<Response>;
}

export interface ServerAddress {
  readonly baseUrl: string;
  readonly token: string;
}

const answerTimeoutMs = 120_000;
const pageLength = 1000;

/**
 * Where the server is and the token for it: options, then environment, then what a server on this machine
 * left in DATA_DIR.
 * @throws UsageError for a bad address, CommandError when there is no token.
 */
export async function findServer(
  config: ClientConfig,
  options: { readonly url?: string | undefined; readonly token?: string | undefined } = {},
): Promise<ServerAddress> {
  const file = await readFileOf(config.dataDir);
  const given = options.url === undefined ? config.repeaterUrl : parseUrl(options.url);
  const baseUrl = given ?? file.address ?? `http://127.0.0.1:${config.port || 8080}`;
  const belongs = given === null || given === file.address;
  const token = options.token ?? config.adminToken ?? (belongs ? file.adminToken : undefined);
  if (token === undefined) {
    throw new CommandError(`There is no admin token for ${baseUrl}.`, {
      hint:
        'Set ADMIN_TOKEN or give --token. (A server started with "npm start" leaves both its address and its ' +
        `token in ${installationFilePath(config.dataDir)}; another folder is named by DATA_DIR.)`,
    });
  }
  return { baseUrl, token };
}

/** What a server on this machine left; to a user who may not read it, nothing was left. */
async function readFileOf(dataDir: string): Promise<InstallationFile> {
  try {
    return await readInstallationFile(dataDir);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'EACCES' || code === 'ENOTDIR') return {};
    throw new CommandError(message, { cause });
  }
}

function parseUrl(text: string): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new UsageError(`--url: expected an address such as http://127.0.0.1:8080, got "${text}".`);
  }
  return text.replace(/\/+$/, '');
}

/** Makes a client of one server. */
export function createClient({ baseUrl, token }: ServerAddress): Client {
  async function send(
    method: string,
    path: string,
    options: OpenOptions & { body?: unknown } = {},
  ): Promise<Response> {
    const { query = {}, headers = {}, signal, body } = options;
    let response: Response;
    try {
      response = await fetch(`${baseUrl}${path}${queryString(query)}`, {
        method,
        headers: {
          authorization: `Bearer ${token}`,
          'user-agent': 'repeater-cli',
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        // Following one could hand the token to somebody else.
        redirect: 'manual',
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (error) {
      if (signal?.aborted === true && !isTimeout(signal.reason)) throw error;
      throw unreachable(baseUrl, error);
    }
    if (response.ok) return response;
    throw await refusal(baseUrl, response);
  }

  async function exchange<Answer>(
    method: string,
    path: string,
    options: OpenOptions & { body?: unknown } = {},
  ) {
    const response = await send(method, path, { ...options, signal: AbortSignal.timeout(answerTimeoutMs) });
    return readJson<Answer>(baseUrl, response);
  }

  return {
    baseUrl,
    get: (path, query = {}) => exchange('GET', path, { query }),
    post: (path, body = {}) => exchange('POST', path, { body }),
    patch: (path, body) => exchange('PATCH', path, { body }),
    async delete(path) {
      const response = await send('DELETE', path, { signal: AbortSignal.timeout(answerTimeoutMs) });
      await response.body?.cancel();
    },
    async list<Item>(path: string, query: Query = {}, limit = Infinity) {
      const items: Item[] = [];
      let cursor: string | undefined;
      do {
        const wanted = Math.min(pageLength, limit - items.length);
        const page: { data: Item[]; next: string | null } = await exchange('GET', path, {
          query: { ...query, limit: wanted, cursor },
        });
        items.push(...page.data.slice(0, wanted));
        cursor = page.next ?? undefined;
      } while (cursor !== undefined && items.length < limit);
      return items;
    },
    open: (path, options = {}) => send('GET', path, options),
  };
}

function queryString(query: Query): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const item of value === undefined ? [] : [value].flat()) parameters.append(name, String(item));
  }
  return parameters.size === 0 ? '' : `?${parameters.toString()}`;
}

async function readJson<Answer>(baseUrl: string, response: Response): Promise<Answer> {
  try {
    return (await response.json()) as Answer;
  } catch (error) {
    if (error instanceof SyntaxError) throw notRepeater(baseUrl, response);
    throw unreachable(baseUrl, error);
  }
}

async function refusal(baseUrl: string, response: Response): Promise<Error> {
  const text = await response.text();
  let answer: { code?: unknown; message?: unknown; details?: unknown };
  try {
    answer = (JSON.parse(text) ?? {}) as typeof answer;
  } catch (error) {
    if (error instanceof SyntaxError) return notRepeater(baseUrl, response);
    throw error;
  }
  const { code, message, details } = answer;
  if (typeof code !== 'string' || typeof message !== 'string') return notRepeater(baseUrl, response);
  if (response.status === 401) {
    return new CommandError(`${baseUrl} refused the admin token.`, {
      hint: 'Set ADMIN_TOKEN (or --token) to the token the server was started with.',
    });
  }
  return new ApiError({ status: response.status, code, message, details });
}

function notRepeater(baseUrl: string, response: Response): CommandError {
  const type = response.headers.get('content-type') ?? 'no content type';
  return new CommandError(
    `${baseUrl} answers (status ${response.status}, ${type}), but not as Repeater does.`,
    {
      hint: 'Another program may use that port: give the address with --url or REPEATER_URL.',
      // A proxy in front says so while the server restarts.
      mayPass: response.status >= 500,
    },
  );
}

function unreachable(baseUrl: string, error: unknown): CommandError {
  if (isTimeout(error)) {
    return new CommandError(`${baseUrl} did not answer within ${answerTimeoutMs / 1000} seconds.`, {
      mayPass: true,
      cause: error,
    });
  }
  const reason = reasonOf(error);
  return new CommandError(`Nothing answers at ${baseUrl}${reason === null ? '' : ` (${reason})`}.`, {
    hint: 'Is the server running? Start it with "npm start", or name another with --url or REPEATER_URL.',
    mayPass: true,
    cause: error,
  });
}

function isTimeout(error: unknown): boolean {
  return error instanceof Error && error.name === 'TimeoutError';
}

/** The code that fetch hides below its "fetch failed". */
function reasonOf(error: unknown): string | null {
  for (let current = error; current instanceof Error; current = current.cause) {
    const { code } = current as NodeJS.ErrnoException;
    if (typeof code === 'string') return code;
  }
  return null;
}
