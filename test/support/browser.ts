/**
 * The system's Chromium and pages for it, served from an origin of their own as a shop's would be. Where there is no
 * Chromium, `noBrowser` says so and how to get one; tests skip with it.
 */
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Browser, chromium } from 'playwright-core';

const places = [
  process.env['CHROMIUM'],
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
  '/snap/bin/chromium',
  '/Applications/Google Chrome.app/Contents/MacOS/Google Chrome',
];
const executablePath = places.find((path) => path !== undefined && existsSync(path));

/** Why browser tests cannot run here; false when they can. */
export const noBrowser: string | false =
  executablePath === undefined &&
  'there is no Chromium: install it (apt-get install chromium) or name it in CHROMIUM';

export function launchBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: executablePath as string,
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });
}

export interface Site {
  readonly url: string;
  close(): Promise<void>;
}

export interface SiteFile {
  readonly type: 'text/html' | 'text/javascript';
  readonly content: string | Buffer;
}

/** Serves files by path. */
export async function startSite(files: ReadonlyMap<string, SiteFile>): Promise<Site> {
  const server = createServer((request, response) => {
    const file = files.get((request.url ?? '').replace(/\?.*/, ''));
    if (file) response.writeHead(200, { 'content-type': `${file.type}; charset=utf-8` }).end(file.content);
    else response.writeHead(404).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
