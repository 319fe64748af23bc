/**
 * The only reader of process.env. Promises one frozen Config, or one error that lists every bad variable by
 * name with what was expected: nobody should have to start five times to find five mistakes. Values of
 * secrets never appear in a message. `environmentVariables` is the list that README.md shows (by test).
 */
import { isIP } from 'node:net';
import { resolve } from 'node:path';
import * as v from 'valibot';

export type Role = 'all' | 'api' | 'worker';

/** What the server is started with; frozen. Absent values are null and are found by cli/installation.ts. */
export interface Config {
  /** 0 takes any free port. */
  readonly port: number;
  readonly host: string;
  /** Null: the embedded Postgres in `dataDir`. */
  readonly databaseUrl: string | null;
  /** Absolute. */
  readonly dataDir: string;
  readonly adminToken: string | null;
  readonly writeKey: string | null;
  /** One key or several separated by commas, the first of which seals. */
  readonly secretKey: string | null;
  readonly role: Role;
  readonly allowPrivateDestinations: boolean;
  readonly logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
  /** A message id that comes again within this time is stored once. */
  readonly dedupHours: number;
  /** Whose X-Forwarded-For is believed: as many proxies in front, or those of these addresses and networks. */
  readonly trustedProxies: number | readonly string[];
  /** Events per second that a write key may send to one process; null: as many as come. */
  readonly rateLimitPerKey: number | null;
}

/** What the commands need that talk to a running server. */
export interface ClientConfig {
  readonly repeaterUrl: string | null;
  readonly port: number;
  readonly adminToken: string | null;
  readonly dataDir: string;
}

/** Variables by name; an empty text counts as absent. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The environment as documented: one row each in README.md. */
export const environmentVariables = [
  ['PORT', '8080', 'Port of the HTTP server; 0 takes any free one.'],
  ['HOST', '127.0.0.1; 0.0.0.0 with DATABASE_URL', 'Address to listen on.'],
  ['DATABASE_URL', 'embedded PostgreSQL', 'PostgreSQL 15 or later. With it, nothing is written to disk.'],
  ['DATA_DIR', './data', 'Folder of the embedded PostgreSQL and of generated secrets.'],
  ['ADMIN_TOKEN', 'generated', 'Opens the admin API. 8 characters or more; use 32 random ones.'],
  ['WRITE_KEY', 'generated', 'Write key of the first source, made if absent.'],
  ['SECRET_KEY', 'generated', 'Seals stored secrets. 16 characters or more; to change it: `new,old`.'],
  ['ROLE', 'all', '`all`, `api` (accepts events, admin API) or `worker` (delivers).'],
  ['ALLOW_PRIVATE_DESTINATIONS', 'false', '`true` lets destinations reach loopback and private addresses.'],
  ['DEDUP_HOURS', '48', 'How long a repeated messageId is recognised, 1 to 8760 hours.'],
  ['TRUSTED_PROXIES', '0', 'Proxies in front: their number, or their networks (`10.0.0.0/8,::1`).'],
  ['RATE_LIMIT_PER_KEY', 'off', 'Events a second of one write key and process; beyond it, 429.'],
  [
    'LOG_LEVEL',
    'info; warn for the embedded database in a terminal',
    '`trace`, `debug`, `info`, `warn`, `error`, `fatal` or `silent`.',
  ],
  ['REPEATER_URL', 'found in DATA_DIR', 'For the commands: address of the server to talk to.'],
] as const satisfies readonly (readonly [name: string, fallback: string, meaning: string])[];

/** One or more variables are wrong; the message lists each on a line of its own. */
export class ConfigError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(`The environment is not valid:\n${problems.map((problem) => `  ${problem}`).join('\n')}`);
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

const secrets = new Set(['DATABASE_URL', 'ADMIN_TOKEN', 'WRITE_KEY', 'SECRET_KEY']);

const text = v.string();
const wholeNumber = (least: number, most: number) => {
  const expected = `a whole number from ${least} to ${most}`;
  return v.pipe(
    text,
    v.regex(/^\d{1,9}$/, expected),
    v.transform(Number),
    v.minValue(least, expected),
    v.maxValue(most, expected),
  );
};
const choice = <const Option extends string>(...options: Option[]) =>
  v.pipe(v.pipe(text, v.toLowerCase()), v.picklist(options, `one of ${options.join(', ')}`));
const httpUrl = v.pipe(
  text,
  v.check((value) => {
    const url = URL.parse(value);
    return url !== null && /^https?:$/.test(url.protocol);
  }, 'an address such as http://127.0.0.1:8080'),
  v.transform((value) => value.replace(/\/+$/, '')),
);

const port = v.optional(wholeNumber(0, 65_535), '8080');
const dataDir = v.pipe(
  v.optional(text, './data'),
  v.transform((folder) => resolve(folder)),
);
const adminToken = v.optional(
  v.pipe(text, v.regex(/^[\x21-\x7e]{8,512}$/, 'at least 8 characters, none of them a space')),
);

const proxies = v.pipe(
  text,
  v.transform((value) =>
    /^\d{1,2}$/.test(value) ? Number(value) : value.split(',').map((part) => part.trim()),
  ),
  v.check(
    (value) => typeof value === 'number' || value.every(isNetwork),
    'a number of proxies, or addresses and networks such as 10.0.0.0/8,::1',
  ),
);

const serverShape = v.object({
  PORT: port,
  HOST: v.optional(v.pipe(text, v.regex(/^[\w.:%-]+$/, 'an address or a host name'))),
  DATABASE_URL: v.optional(
    v.pipe(text, v.regex(/^postgres(?:ql)?:\/\/\S+$/, 'postgres://user:password@host:port/database')),
  ),
  DATA_DIR: dataDir,
  ADMIN_TOKEN: adminToken,
  WRITE_KEY: v.optional(
    v.pipe(text, v.regex(/^[\x21-\x39\x3b-\x7e]{1,200}$/, '1 to 200 characters, no space and no colon')),
  ),
  SECRET_KEY: v.optional(
    v.pipe(
      text,
      v.check(
        (keys) => keys.split(',').every((key) => key.trim().length >= 16),
        'at least 16 characters (of each key, if there are several separated by commas)',
      ),
    ),
  ),
  ROLE: v.optional(choice('all', 'api', 'worker'), 'all'),
  ALLOW_PRIVATE_DESTINATIONS: v.optional(choice('true', 'false', '1', '0'), 'false'),
  DEDUP_HOURS: v.optional(wholeNumber(1, 8760), '48'),
  TRUSTED_PROXIES: v.optional(proxies, '0'),
  RATE_LIMIT_PER_KEY: v.optional(wholeNumber(1, 1_000_000)),
  LOG_LEVEL: v.optional(choice('trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent')),
});

const clientShape = v.object({
  REPEATER_URL: v.optional(httpUrl),
  PORT: port,
  ADMIN_TOKEN: adminToken,
  DATA_DIR: dataDir,
});

export interface LoadOptions {
  /** Stands in for process.env. */
  readonly environment?: Environment;
  /** Options of the command line, which win over the environment. */
  readonly overrides?: Environment;
  /** Whether a person is looking at stdout. */
  readonly isTerminal?: boolean;
}

/** Reads the server's configuration. @throws ConfigError naming every bad variable */
export function loadConfig(options: LoadOptions = {}): Config {
  const given = parse(serverShape, options);
  const databaseUrl = given.DATABASE_URL ?? null;
  const quiet = databaseUrl === null && options.isTerminal === true;
  return Object.freeze({
    port: given.PORT,
    host: given.HOST ?? (databaseUrl === null ? '127.0.0.1' : '0.0.0.0'),
    databaseUrl,
    dataDir: given.DATA_DIR,
    adminToken: given.ADMIN_TOKEN ?? null,
    writeKey: given.WRITE_KEY ?? null,
    secretKey: given.SECRET_KEY ?? null,
    role: given.ROLE,
    allowPrivateDestinations: ['true', '1'].includes(given.ALLOW_PRIVATE_DESTINATIONS),
    logLevel: given.LOG_LEVEL ?? (quiet ? 'warn' : 'info'),
    dedupHours: given.DEDUP_HOURS,
    trustedProxies: given.TRUSTED_PROXIES,
    rateLimitPerKey: given.RATE_LIMIT_PER_KEY ?? null,
  });
}

/** Reads what a command needs to reach a server; the server's own variables are not judged. @throws ConfigError */
export function loadClientConfig(options: Omit<LoadOptions, 'isTerminal'> = {}): ClientConfig {
  const given = parse(clientShape, options);
  return Object.freeze({
    repeaterUrl: given.REPEATER_URL ?? null,
    port: given.PORT,
    adminToken: given.ADMIN_TOKEN ?? null,
    dataDir: given.DATA_DIR,
  });
}

/** The value of one variable at this moment, for `env:NAME` references in settings; undefined when absent or empty. */
export function readEnvironment(name: string): string | undefined {
  return process.env[name] || undefined;
}

/** Names that look like ours and are none, for a warning: REPEATER_PORT does nothing. */
export function unknownVariables(environment: Environment = process.env): string[] {
  const known: readonly string[] = environmentVariables.map(([name]) => name);
  return Object.keys(environment).filter((name) => name.startsWith('REPEATER_') && !known.includes(name));
}

function parse<Shape extends v.GenericSchema>(shape: Shape, options: LoadOptions): v.InferOutput<Shape> {
  const { environment = process.env, overrides = {} } = options;
  const all = Object.entries({ ...environment, ...definedOnly(overrides) });
  const given = Object.fromEntries(all.filter(([, value]) => value !== undefined && value.trim() !== ''));
  const result = v.safeParse(shape, given);
  if (result.success) return result.output;
  const problems = new Map(result.issues.map((issue) => [v.getDotPath(issue) ?? '', issue.message]));
  throw new ConfigError(
    [...problems].map(
      ([name, expected]) => `${name}=${hintOf(name, given[name] ?? '')}: expected ${expected}`,
    ),
  );
}

function isNetwork(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/');
  const most = isIP(address) === 6 ? 128 : 32;
  return (
    isIP(address) !== 0 &&
    rest.length === 0 &&
    (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= most))
  );
}

function definedOnly(overrides: Environment): Environment {
  return Object.fromEntries(Object.entries(overrides).filter(([, value]) => value !== undefined));
}

/** What was given, as far as it may be shown. */
function hintOf(name: string, value: string): string {
  if (secrets.has(name)) return `(${value.length} characters, not shown)`;
  const shown = value.length > 40 ? `${value.slice(0, 40)}…` : value;
  return JSON.stringify(name === 'REPEATER_URL' ? shown.replace(/\/\/.*@/, '//***@') : shown);
}
