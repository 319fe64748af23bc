/** Accepting events: batches against COPY, single events against a bare HTTP server, and with delivery beside it. */
import postgres from 'postgres';
import { createDatabase, openLive } from './backlog.ts';
import { type Child, freePort, startChild } from './children.ts';
import type { LoadResult } from './load-child.ts';
import { alternate, count, note, type Row } from './measure.ts';
import { openPool, type Sql } from '../../src/db/client.ts';
import type { Bench } from './run.ts';

const users = 10_000;
const batchEvents = 60_000;
const singleEvents = 12_000;

export async function ingestMeasures(bench: Bench): Promise<Row[]> {
  const rows: Row[] = [];
  if (!['ingest', 'single', 'both'].some((name) => bench.wants(name))) return rows;
  const url = await createDatabase(bench.serverUrl, 'ingest');
  const port = await freePort();
  const load = await startChild('load-child.ts', { name: 'load' });
  const api = await startChild('server-child.ts', { databaseUrl: url, role: 'api', port });
  let perSecond = 26_000;
  if (bench.wants('ingest')) {
    const row = await batches(url, load, port);
    perSecond = row.perSecond;
    rows.push(row.row);
  }
  if (bench.wants('single')) rows.push(await singles(load, port));
  bench.memory('accepting', await api.peakBytes());
  await api.stop();
  if (bench.wants('both')) rows.push(...(await bothAtOnce(bench, load, perSecond)));
  await load.stop();
  return rows;
}

async function batches(url: string, load: Child, port: number): Promise<{ row: Row; perSecond: number }> {
  const copier = await startChild('yardstick-child.ts', { databaseUrl: url });
  const clean = postgres(url, { max: 1, onnotice: () => {} });
  // Both write into a table of the same size: what a round leaves is taken away before the next.
  const empty = () => clean`truncate warehouse.events`;
  const rates = await alternate({
    copy: async () => {
      await empty();
      return (1_000 * batchEvents) / (await copier.ask<number>({ do: 'copy', total: batchEvents, users }));
    },
    batches: async () => {
      await empty();
      const request = {
        url: `http://127.0.0.1:${port}`,
        connections: 16,
        batch: 100,
        events: batchEvents,
        users,
      };
      return (1_000 * batchEvents) / (await load.ask<LoadResult>(request)).ms;
    },
  });
  await clean.end();
  await copier.stop();
  const row: Row = {
    measure: 'durable ingest, batches of 100, 16 connections',
    reached: `${count(rates.batches)} events/s`,
    limit: `COPY ${count(rates.copy)} rows/s`,
    ratio: rates.batches / rates.copy,
    must: 0.5,
    aim: 0.7,
    better: 'more',
  };
  return { row, perSecond: rates.batches };
}

async function singles(load: Child, port: number): Promise<Row> {
  const barePort = await freePort();
  const bare = await startChild('yardstick-child.ts', { port: barePort });
  const rate = async (to: number) => {
    const request = { url: `http://127.0.0.1:${to}`, connections: 64, batch: 1, events: singleEvents, users };
    return (1_000 * singleEvents) / (await load.ask<LoadResult>(request)).ms;
  };
  const rates = await alternate({ bare: () => rate(barePort), singles: () => rate(port) });
  await bare.stop();
  return {
    measure: 'durable ingest, single events, 64 connections',
    reached: `${count(rates.singles)} events/s`,
    limit: `bare node:http ${count(rates.bare)} /s`,
    ratio: rates.singles / rates.bare,
    must: 0.3,
    aim: 0.45,
    better: 'more',
  };
}

async function bothAtOnce(bench: Bench, load: Child, perSecond: number): Promise<Row[]> {
  const url = await createDatabase(bench.serverUrl, 'both');
  const port = await freePort();
  const server = await startChild('server-child.ts', { databaseUrl: url, role: 'all', port });
  const sql = openPool(url, 'admin');
  const feeds = [await openLive(sql, 'bench-noop'), await openLive(sql, 'bench-noop')].map(
    (each) => each.feedId,
  );
  const rate = Math.round(perSecond / 2);
  const seconds = 10;
  const lags: number[] = [];
  const done = new AbortController();
  const watching = (async () => {
    while (!done.signal.aborted) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      lags.push(await lagOf(sql, feeds));
    }
  })();
  const request = { url: `http://127.0.0.1:${port}`, connections: 16, batch: 100, users, perSecond: rate };
  await load.ask<LoadResult>({ ...request, events: rate * 2 });
  const { latenciesMs } = await load.ask<LoadResult>({ ...request, events: rate * seconds });
  done.abort();
  await watching;
  note(`lag while ${count(rate)} events/s come in: ${lags.join(', ')}`);
  bench.memory('both at once', await server.peakBytes());
  await sql.end();
  await server.stop();
  const [early, late] = [lags.slice(4, 12), lags.slice(-8)].map(
    (part) => part.reduce((sum, lag) => sum + lag, 0) / part.length,
  );
  return [
    {
      measure: 'ingest at half its maximum beside two deliveries: p99 of the answer',
      reached: `${latenciesMs.p99.toFixed(1)} ms (p50 ${latenciesMs.p50.toFixed(1)})`,
      limit: '-',
      ratio: latenciesMs.p99,
      must: 100,
      aim: 30,
      better: 'less',
      unit: 'ms',
    },
    {
      measure: '… the lag does not grow: events behind, late against early',
      reached: `${count(late ?? 0)} events`,
      limit: `${count(early ?? 0)} events`,
      // Half a second's worth of events is no lag.
      ratio: (late ?? 0) / Math.max(early ?? 0, rate / 2),
      must: 1.5,
      aim: 1,
      better: 'less',
    },
  ];
}

async function lagOf(sql: Sql, feeds: readonly number[]): Promise<number> {
  const [row] = await sql<{ lag: number }[]>`
    select max(head - done)::bigint as lag from (
      select (select count(*) from warehouse.events) as head,
        (select sum(delivered) from repeater.feed_lanes l where l.feed_id = f.id) as done
      from repeater.feeds f where f.id = any(${[...feeds]}::integer[])) as each`;
  return row?.lag ?? 0;
}
