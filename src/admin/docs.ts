/**
 * The admin API's documentation: the OpenAPI document, made from the very shapes that validate, and a page
 * to read and try it. The page needs no other host: its script and style come from the swagger-ui-dist
 * package, and its policy allows nothing else.
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { Hono } from 'hono';
import { generateSpecs } from 'hono-openapi';
import type { AdminApi } from './routes.ts';

const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Repeater admin API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
</head>
<body>
<div id="api"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
`;

const start = `SwaggerUIBundle({
  url: '/docs/openapi.json',
  dom_id: '#api',
  deepLinking: true,
  defaultModelsExpandDepth: -1,
  validatorUrl: null,
});
`;

/** Files of swagger-ui-dist that are served, and no others. */
const assets = {
  'swagger-ui.css': 'text/css; charset=utf-8',
  'swagger-ui-bundle.js': 'text/javascript; charset=utf-8',
} as const;

/** Makes the pages under /docs. They tell nothing about an installation and need no token. */
export function createDocs(adminApi: AdminApi): Hono {
  const require = createRequire(import.meta.url);
  let document: Promise<unknown> | undefined;
  const docs = new Hono();
  docs.use(async (c, next) => {
    c.header('content-security-policy', policy);
    c.header('x-content-type-options', 'nosniff');
    c.header('referrer-policy', 'no-referrer');
    await next();
  });
  docs.get('/', (c) => c.html(page));
  docs.get('/start.js', (c) => c.body(start, 200, { 'content-type': 'text/javascript; charset=utf-8' }));
  docs.get('/openapi.json', async (c) => c.json((await (document ??= describeApi(adminApi))) as object));
  for (const [name, type] of Object.entries(assets)) {
    docs.get(`/${name}`, async (c) => {
      const file = await readFile(require.resolve(`swagger-ui-dist/${name}`));
      return c.body(file, 200, { 'content-type': type, 'cache-control': 'public, max-age=3600' });
    });
  }
  return docs;
}

/** The OpenAPI 3.1 document of the admin API. */
export async function describeApi(adminApi: AdminApi): Promise<Awaited<ReturnType<typeof generateSpecs>>> {
  return generateSpecs(new Hono().route('/admin', adminApi), {
    documentation: {
      info: {
        title: 'Repeater admin API',
        version: '1',
        description:
          'Sources, destinations, replays and what became of every event. Each call needs the admin token. ' +
          'Lists answer `{"data": [...], "next": cursor | null}`; errors `{"code", "message", "details"?}`.',
      },
      components: { securitySchemes: { adminToken: { type: 'http', scheme: 'bearer' } } },
      security: [{ adminToken: [] }],
    },
    defaultValidationErrorResponse: false,
  });
}
