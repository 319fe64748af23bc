/** The clients: so many connections, each with one request in flight, single events or batches, at full speed or at a rate. */
import { Pool } from 'undici';
import { childArgument, serveParent } from './children.ts';
import { batchText, eventText } from './sample-events.ts';

interface Load {
  readonly url: string;
  readonly connections: number;
  /** 1: single events. */
  readonly batch: number;
  readonly events: number;
  readonly users: number;
  /** Events per second over all connections; absent: as fast as the answers come. */
  readonly perSecond?: number;
}

export interface LoadResult {
  readonly ms: number;
  readonly latenciesMs: { readonly p50: number; readonly p99: number; readonly max: number };
}

const { name } = childArgument() as { name: string };
const authorization = `Basic ${Buffer.from('key-of-the-benchmark:').toString('base64')}`;
const headers = { authorization, 'content-type': 'application/json' };
let made = 0;

function nextBody(load: Load): string {
  const texts = Array.from({ length: load.batch }, () => {
    made++;
    return eventText(`user-${(made * 7919) % load.users}`, `${name}-${process.pid}-${made}`);
  });
  return load.batch === 1 ? (texts[0] as string) : batchText(texts);
}

async function run(load: Load): Promise<LoadResult> {
  const pool = new Pool(load.url, { connections: load.connections, pipelining: 1 });
  const path = load.batch === 1 ? '/v1/track' : '/v1/batch';
  const total = Math.ceil(load.events / load.batch);
  const latencies: number[] = [];
  let started = 0;
  const everyMs = load.perSecond === undefined ? 0 : (1_000 * load.batch) / load.perSecond;
  const startedAt = performance.now();
  const one = async () => {
    while (started < total) {
      const turn = started++;
      // Open loop: a request is due at its time, and waiting behind a slow one counts.
      const dueAt = startedAt + turn * everyMs;
      const body = nextBody(load);
      const early = dueAt - performance.now();
      if (early > 0) await new Promise((resolve) => setTimeout(resolve, early));
      const from = everyMs > 0 ? dueAt : performance.now();
      const response = await pool.request({ method: 'POST', path, headers, body });
      const text = await response.body.text();
      if (response.statusCode !== 200) throw new Error(`${response.statusCode} ${text}`);
      latencies.push(performance.now() - from);
    }
  };
  await Promise.all(Array.from({ length: load.connections }, one));
  const ms = performance.now() - startedAt;
  await pool.close();
  latencies.sort((left, right) => left - right);
  const at = (share: number) =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0;
  return { ms, latenciesMs: { p50: at(0.5), p99: at(0.99), max: latencies.at(-1) ?? 0 } };
}

serveParent((request) => run(request as unknown as Load));
