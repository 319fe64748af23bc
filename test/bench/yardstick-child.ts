/**
 * The limits everything is held against, each as bare as it can be: the same work in one process with nothing
 * around it.
 */
import { createServer } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { Readable } from 'node:stream';
import postgres from 'postgres';
import { createRequester } from '../../src/delivery/request.ts';
import { StoredEvent, storedColumns, type StoredRow } from '../../src/events/stored-event.ts';
import { take } from './bench-destinations.ts';
import { childArgument, serveParent } from './children.ts';
import { eventText } from './sample-events.ts';

const { databaseUrl, port } = childArgument() as { databaseUrl?: string; port?: number };
const sql = databaseUrl === undefined ? null : postgres(databaseUrl, { max: 1, onnotice: () => {} });
const requester = createRequester({ allowPrivateAddresses: true });

/** The HTTP server that does nothing but parse. */
if (port !== undefined) {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      JSON.parse(Buffer.concat(chunks).toString());
      response.writeHead(200, { 'content-type': 'application/json' });
      response.end('{"success":true}');
    });
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', 1_024, resolve));
}

const pages = 2_000;

async function* readAll(): AsyncGenerator<StoredEvent[]> {
  let after = 0;
  for (;;) {
    const rows = await (sql as postgres.Sql)
      .unsafe(
        `select ${storedColumns} from warehouse.events e where e.id > $1 order by e.id limit ${pages}`,
        [after],
        { prepare: true },
      )
      .values();
    if (rows.length === 0) return;
    const events = rows.map((row) => new StoredEvent(row as unknown as StoredRow));
    after = (events.at(-1) as StoredEvent).position;
    yield events;
  }
}

/** Reads the log in order, parses each event and calls the function. Milliseconds. */
async function loop(): Promise<number> {
  const startedAt = performance.now();
  for await (const events of readAll()) for (const event of events) await take(event);
  return performance.now() - startedAt;
}

/** Sends ready bodies with so many requests in flight. Milliseconds. */
async function sendAll(url: string, total: number, concurrency: number): Promise<number> {
  const bodies = Array.from({ length: 1_000 }, (_, index) => eventText(`user-${index}`, `message-${index}`));
  const headers = { 'content-type': 'application/json' };
  let next = 0;
  const one = async () => {
    while (next < total) {
      const body = bodies[next++ % bodies.length] as string;
      const { status } = await requester.request({ method: 'POST', url, headers, body });
      if (status !== 200) throw new Error(`the receiver answered ${status}`);
    }
  };
  const startedAt = performance.now();
  await Promise.all(Array.from({ length: concurrency }, one));
  return performance.now() - startedAt;
}

const columns =
  'id, received_at, "timestamp", original_timestamp, sent_at, source_id, lane, type, event, user_id, anonymous_id, user_key, message_id, marks, payload';

/** Copies rows like those the door stores into the same table. Milliseconds. */
async function copy(total: number, users: number): Promise<number> {
  const now = '2026-11-24 09:15:00.000+00';
  const client = sql as postgres.Sql;
  const month = new Date().toISOString();
  const [row] = await client`select nextval('repeater.event_position')::int8 as id`;
  let id = Number(row?.['id']);
  // Made before the clock starts, and cut as COPY's text format wants it.
  const chunks: string[] = [];
  for (let done = 0; done < total;) {
    const lines: string[] = [];
    for (let count = 0; count < 500 && done < total; count++, done++) {
      const user = `user-${(id * 7919) % users}`;
      const message = `copied-${process.pid}-${id}`;
      const lane = (id * 31) % 32;
      lines.push(
        `${id++}\t${month}\t${now}\t${now}\t${now}\t1\t${lane}\ttrack\tOrder Completed\t${user}\t\\N\tu:${user}\t${message}\t\\N\t${eventText(user, message)}\n`,
      );
    }
    chunks.push(lines.join(''));
  }
  const startedAt = performance.now();
  const stream = await client.unsafe(`copy warehouse.events (${columns}) from stdin`).writable();
  await pipeline(Readable.from(chunks), stream);
  const took = performance.now() - startedAt;
  await client`select setval('repeater.event_position', ${id})`;
  return took;
}

serveParent(async (request) => {
  if (request['do'] === 'loop') return loop();
  if (request['do'] === 'copy') return copy(request['total'] as number, request['users'] as number);
  return sendAll(request['url'] as string, request['total'] as number, request['concurrency'] as number);
});
