/**
 * analytics.js itself, so that a page needs no other host: the script with the write key filled in, and the parts it
 * may load later. They are files of the @segment/analytics-next package, read when first asked for. What stands in
 * front of the script tells it where it came from: by itself it recognises only https addresses, else Segment's.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { Hono, type Context } from 'hono';
import type { HttpBindings } from '@hono/node-server';
import { AppError } from '../lib/errors.ts';
import { errorBody, errorHeaders } from './answer.ts';
import type { WriteKeys } from './write-key.ts';

type Env = { Bindings: HttpBindings };

interface Script {
  readonly plain: Uint8Array<ArrayBuffer>;
  readonly zipped: Uint8Array<ArrayBuffer>;
  readonly etag: string;
}

/** A new version of the program is taken up within this time; parts have their content's hash in their name. */
const scriptAge = 'public, max-age=300, stale-while-revalidate=86400';
const partAge = 'public, max-age=31536000, immutable';
/** Scripts with a key filled in that are kept, 150 KB each. */
const keptScripts = 32;

/**
 * Sets what Segment's snippet and script read (`_cdn`, `_loadOptions`), where the page has not: the address before
 * `/analytics.js/`, and plain http where the script itself came by it.
 */
const prelude = `(function(){var s=document.currentScript;if(!s||!s.src)return;
var n=s.getAttribute("data-global-segment-analytics-key")||"analytics",a=window[n]=window[n]||[];
if(!a._cdn)a._cdn=s.src.split("/analytics.js/v1/")[0];
if(s.src.indexOf("http:")===0){var o=a._loadOptions=a._loadOptions||{},i=o.integrations=o.integrations||{},d=i["Segment.io"];
if(d===undefined||typeof d==="object"){d=i["Segment.io"]=d||{};if(!d.protocol)d.protocol="http"}}
})();
`;
const placeholder = '"__WRITE_KEY__"';

/** `/analytics.js/v1/:writeKey/analytics.min.js` and `/analytics-next/bundles/*`. */
export function createAnalyticsJs(writeKeys: Pick<WriteKeys, 'sourceOf'>): Hono<Env> {
  const folder = join(
    dirname(createRequire(import.meta.url).resolve('@segment/analytics-next/package.json')),
    'dist/umd',
  );
  const scripts = new Map<string, Promise<Script>>();
  const parts = new Map<string, Promise<Script>>();
  const app = new Hono<Env>({ strict: false });
  app.get('/analytics.js/v1/:key/analytics.min.js', async (c) => {
    const key = c.req.param('key');
    if ((await writeKeys.sourceOf(key)) === null) return refuse(c, new AppError('unknown_write_key'), 404);
    const script = await kept(scripts, key, async () =>
      fillIn(await readFile(join(folder, 'standalone.js'), 'utf8'), key),
    );
    const [oldest] = scripts.keys();
    if (scripts.size > keptScripts && oldest !== undefined) scripts.delete(oldest);
    return send(c, script, scriptAge);
  });
  app.get('/analytics-next/bundles/:file', async (c) => {
    const file = c.req.param('file');
    const isPart = /^[\w-]+\.bundle\.\w+\.js$/.test(file) && (await readdir(folder)).includes(file);
    if (!isPart) return refuse(c, new AppError('not_found'), 404);
    return send(c, await kept(parts, file, async () => pack(await readFile(join(folder, file)))), partAge);
  });
  return app;
}

function fillIn(script: string, key: string): Promise<Script> {
  const [before, after, ...more] = script.split(placeholder);
  if (after === undefined || more.length > 0) throw new Error('analytics.js has no place for the write key.');
  return pack(Buffer.from(`${prelude}${before}${JSON.stringify(key)}${after}`));
}

async function pack(content: Buffer): Promise<Script> {
  return {
    plain: Uint8Array.from(content),
    zipped: Uint8Array.from(await promisify(gzip)(content, { level: 9 })),
    // Weak, since it stands for both encodings.
    etag: `W/"${createHash('sha256').update(content).digest('base64url').slice(0, 22)}"`,
  };
}

/** Made once, also for requests that come together; what failed is tried again. */
function kept(all: Map<string, Promise<Script>>, name: string, make: () => Promise<Script>): Promise<Script> {
  const known = all.get(name);
  if (known) return known;
  const made = make();
  all.set(name, made);
  made.catch(() => all.delete(name));
  return made;
}

function send(c: Context<Env>, { plain, zipped, etag }: Script, cacheControl: string): Response {
  const headers = {
    'content-type': 'text/javascript; charset=utf-8',
    'cache-control': cacheControl,
    etag,
    vary: 'Accept-Encoding',
    // Pages may ask for it with `crossorigin`, or demand it of everything they load.
    'access-control-allow-origin': '*',
    'cross-origin-resource-policy': 'cross-origin',
    'x-content-type-options': 'nosniff',
  };
  const known = c.req.header('if-none-match')?.split(/\s*,\s*/) ?? [];
  if (known.includes(etag) || known.includes(etag.slice(2)) || known.includes('*'))
    return c.body(null, 304, headers);
  const takesGzip = /(?:^|,)\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))|,|$)/i.test(
    c.req.header('accept-encoding') ?? '',
  );
  return takesGzip
    ? c.body(zipped, 200, { ...headers, 'content-encoding': 'gzip' })
    : c.body(plain, 200, headers);
}

function refuse(c: Context<Env>, error: AppError, status: 404): Response {
  return c.body(errorBody(error), status, errorHeaders(error, c.env.incoming.headers));
}
