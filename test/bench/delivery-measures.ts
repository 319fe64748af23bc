/** Delivering a backlog: against a bare loop, against the bare HTTP client, and against itself under difficulties. */
import { type Backlog, deliverBacklog, fillBacklog, replayBacklog } from './backlog.ts';
import { isFailing } from './bench-destinations.ts';
import { type Child, freePort, startChild } from './children.ts';
import { alternate, count, type Row } from './measure.ts';
import type { Bench } from './run.ts';

const events = 100_000;
const httpEvents = 50_000;
/** The worker has delivered the backlog before. */
const warm = { warmUp: false };
const names = ['noop', 'http', 'users', 'failing', 'slow', 'replay'];

export async function deliveryMeasures(bench: Bench): Promise<Row[]> {
  const rows: Row[] = [];
  if (!names.some((name) => bench.wants(name))) return rows;
  const backlog = await fillBacklog(bench.serverUrl, events, 10_000);
  const worker = await startWorker(backlog);
  if (bench.wants('noop')) rows.push(await noop(backlog));
  if (bench.wants('failing')) rows.push(await withFailingUsers(backlog));
  if (bench.wants('slow')) rows.push(await slowReceiver(backlog));
  if (bench.wants('replay')) rows.push(await replay(backlog));
  bench.memory('delivering', await worker.peakBytes());
  await worker.stop();
  await backlog.sql.end();
  if (bench.wants('http')) rows.push(await overHttp(bench));
  if (bench.wants('users')) rows.push(await fewAndManyUsers(bench));
  return rows;
}

async function startWorker(backlog: Backlog): Promise<Child> {
  return startChild('server-child.ts', { databaseUrl: backlog.url, role: 'worker', port: await freePort() });
}

const perSecond = (ms: number, count = events) => (1_000 * count) / ms;

async function noop(backlog: Backlog): Promise<Row> {
  const loop = await startChild('yardstick-child.ts', { databaseUrl: backlog.url });
  const rates = await alternate({
    loop: async () => perSecond(await loop.ask<number>({ do: 'loop' })),
    delivery: async () => perSecond(await deliverBacklog(backlog, 'bench-noop')),
  });
  await loop.stop();
  return {
    measure: 'delivery of 100,000 events of 10,000 users, no-op',
    reached: `${count(rates.delivery)} events/s`,
    limit: `bare loop ${count(rates.loop)} /s`,
    ratio: rates.delivery / rates.loop,
    must: 0.45,
    aim: 0.7,
    better: 'more',
  };
}

async function overHttp(bench: Bench): Promise<Row> {
  const backlog = await fillBacklog(bench.serverUrl, httpEvents, 10_000);
  const worker = await startWorker(backlog);
  const port = await freePort();
  const receiver = await startChild('receiver-child.ts', { port });
  const client = await startChild('yardstick-child.ts', {});
  const url = `http://127.0.0.1:${port}/`;
  const settings = { url, secret: `whsec_${Buffer.alloc(32, 7).toString('base64')}` };
  const rates = await alternate(
    {
      client: async () =>
        perSecond(
          await client.ask<number>({ do: 'send', url, total: httpEvents, concurrency: 256 }),
          httpEvents,
        ),
      delivery: async () => perSecond(await deliverBacklog(backlog, 'webhook', { settings }), httpEvents),
    },
    { warmUp: false },
  );
  await client.stop();
  await receiver.stop();
  bench.memory('delivering over HTTP', await worker.peakBytes());
  await worker.stop();
  await backlog.sql.end();
  return {
    measure: '50,000 of them to a loopback receiver, one request an event',
    reached: `${count(rates.delivery)} events/s`,
    limit: `bare client ${count(rates.client)} /s`,
    ratio: rates.delivery / rates.client,
    must: 0.4,
    aim: 0.7,
    better: 'more',
  };
}

async function withFailingUsers(backlog: Backlog): Promise<Row> {
  const [row] = await backlog.sql<{ keys: string[] }[]>`
    select array_agg(user_key) as keys from warehouse.events`;
  const healthy = (row?.keys ?? []).filter((key) => !isFailing(key)).length;
  const times = await alternate(
    {
      none: () => deliverBacklog(backlog, 'bench-noop'),
      failing: () => deliverBacklog(backlog, 'bench-failing', { events: healthy }),
    },
    warm,
  );
  return {
    measure: '1 % of the users failing: until the healthy are done',
    reached: `${count(times.failing)} ms`,
    limit: `none failing ${count(times.none)} ms`,
    ratio: times.failing / times.none,
    must: 1.5,
    aim: 1.15,
    better: 'less',
  };
}

async function slowReceiver(backlog: Backlog): Promise<Row> {
  const rates = await alternate(
    {
      noop: async () => perSecond(await deliverBacklog(backlog, 'bench-noop')),
      slow: async () => perSecond(await deliverBacklog(backlog, 'bench-slow')),
    },
    warm,
  );
  return {
    measure: '5 ms a call, 1 % of calls 1 s, 1,024 in flight',
    reached: `${count(rates.slow)} events/s`,
    limit: `no-op ${count(rates.noop)} /s`,
    ratio: rates.slow / rates.noop,
    must: 0.25,
    aim: 0.35,
    better: 'more',
  };
}

async function replay(backlog: Backlog): Promise<Row> {
  const rates = await alternate(
    {
      live: async () => perSecond(await deliverBacklog(backlog, 'bench-noop')),
      replay: async () => perSecond(await replayBacklog(backlog, 'bench-noop')),
    },
    warm,
  );
  return {
    measure: 'replay of the backlog',
    reached: `${count(rates.replay)} events/s`,
    limit: `live ${count(rates.live)} /s`,
    ratio: rates.replay / rates.live,
    must: 0.9,
    aim: 1,
    better: 'more',
  };
}

async function fewAndManyUsers(bench: Bench): Promise<Row> {
  const few = await fillBacklog(bench.serverUrl, events, 1_000);
  const many = await fillBacklog(bench.serverUrl, events, 100_000);
  const workers = [await startWorker(few), await startWorker(many)];
  const rates = await alternate({
    few: async () => perSecond(await deliverBacklog(few, 'bench-noop')),
    many: async () => perSecond(await deliverBacklog(many, 'bench-noop')),
  });
  for (const worker of workers) {
    bench.memory('delivering to few or many users', await worker.peakBytes());
    await worker.stop();
  }
  await Promise.all([few.sql.end(), many.sql.end()]);
  const [slower, faster] = [Math.min(rates.few, rates.many), Math.max(rates.few, rates.many)];
  return {
    measure: '100,000 users / 1,000 users, against each other',
    reached: `${count(rates.many)} events/s`,
    limit: `${count(rates.few)} /s`,
    ratio: slower / faster,
    must: 0.85,
    aim: 0.95,
    better: 'more',
  };
}
