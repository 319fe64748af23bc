/**
 * What `serve` says when it is ready: where everything is, and lines that work when pasted. Promises to show
 * a secret only when this program made it; one that came from the environment is known to whoever set it.
 */
export interface BannerFacts {
  /** Where a program on this machine reaches the API. */
  readonly address: string;
  readonly writeKey: string | null;
  /** Null: it may not be shown. */
  readonly adminToken: string | null;
  /** Why the token is not shown. */
  readonly adminTokenNote: string;
  /** For psql and BI tools; without its password unless the database is ours. */
  readonly databaseUrl: string;
  readonly took: string;
}

export interface BannerStyle {
  readonly bold: (text: string) => string;
  readonly dim: (text: string) => string;
}

/** The lines, within 80 columns but for addresses and the curl line. */
export function renderBanner(facts: BannerFacts, { bold, dim }: BannerStyle): string[] {
  const { address, writeKey, adminToken, adminTokenNote, databaseUrl, took } = facts;
  const fact = (name: string, value: string) => `  ${bold(name.padEnd(13))}${value}`;
  return [
    '',
    `  ${bold('Repeater is running')} ${dim(`(ready in ${took}; Ctrl-C stops it)`)}`,
    '',
    fact('API', address),
    fact('API docs', `${address}/docs`),
    fact('Write key', writeKey ?? dim('none is valid: create a source')),
    fact('Admin token', adminToken ?? dim(adminTokenNote)),
    fact('SQL', databaseUrl),
    '',
    `  ${bold('Send an event')} ${dim('(or point any Segment SDK at this host with this write key)')}`,
    `  ${curlLine(address, writeKey ?? 'WRITE_KEY')}`,
    '',
    `  ${bold('Look at it')}`,
    '  npx repeater tail --last 10',
    '  npx repeater sql "select id, type, event, user_id from warehouse.events"',
    '',
    `  ${bold('Deliver it, replay it')}`,
    '  npx repeater destinations create --help',
    '  npx repeater replays create --help',
    '',
  ];
}

/** One command that stores an event, as a shell takes it. */
export function curlLine(address: string, writeKey: string): string {
  const event = { userId: 'u1', event: 'Order Completed', properties: { total: 42.5 } };
  return (
    `curl ${address}/v1/track -u ${quoted(`${writeKey}:`)} -H 'content-type: application/json' ` +
    `-d '${JSON.stringify(event)}'`
  );
}

/** For a shell; our own keys need no quotes. */
function quoted(text: string): string {
  return /^[\w:.-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A connection string without its password, for people who know it anyway. */
export function withoutPassword(databaseUrl: string): string {
  return databaseUrl.replace(/^(\w+:\/\/[^:@/]*):[^@]*@/, '$1@').replace(/([?&]password=)[^&]*/i, '$1…');
}
