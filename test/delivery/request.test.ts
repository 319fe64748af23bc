/**
 * The client that destinations are given, against real sockets: where it may connect, what it keeps of an
 * answer, how long it waits, and that whatever is in flight can be ended at once.
 */
import assert from 'node:assert/strict';
import { once, getEventListeners } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { after, before, beforeEach, test, type TestContext } from 'node:test';
import { Worker } from 'node:worker_threads';
import * as fc from 'fast-check';
import manifest from '../../package.json' with { type: 'json' };
import {
  createRequester,
  reservedHeaders,
  type Requester,
  type RequesterOptions,
} from '../../src/delivery/request.ts';
import type { ResolveName } from '../../src/delivery/request-address.ts';
import { blockedText, RequestError } from '../../src/delivery/request-error.ts';
import type { DestinationRequest } from '../../src/destinations/definition.ts';
import { startVendor, type Vendor } from '../support/vendor.ts';

let vendor: Vendor;
let requester: Requester;
let url: string;

before(async () => {
  vendor = await startVendor();
  url = `${vendor.origin}/in?a=1`;
  requester = createRequester({ allowPrivateAddresses: true });
});
beforeEach(() => vendor.play([{ json: {} }]));
after(async () => {
  await requester.close();
  await vendor.close();
});

const post = (rest: Partial<DestinationRequest> = {}): DestinationRequest => ({
  method: 'POST',
  url,
  body: '{"a":1}',
  ...rest,
});

/** A client of one test's own. */
function open(context: TestContext, options: RequesterOptions): Requester {
  const own = createRequester(options);
  context.after(() => own.close());
  return own;
}

/** The error of a request that must fail. */
async function failure(answer: Promise<unknown>): Promise<RequestError> {
  const error = await answer.then(
    () => assert.fail('there was an answer'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof RequestError, String(error));
  return error;
}

/** A resolver that knows these names and counts what it was asked. */
function resolver(names: Readonly<Record<string, () => readonly string[]>>) {
  const asked: string[] = [];
  const lookup: ResolveName = (hostname, callback) => {
    asked.push(hostname);
    const addresses = names[hostname]?.() ?? [];
    const found = addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
    callback(null, found);
  };
  return { asked, lookup };
}

test('a request arrives as it was given, with the client’s own name and no wish for compression', async () => {
  vendor.play([{ status: 201, headers: { 'x-many': ['1', '2'] }, body: 'taken' }]);
  const answer = await requester.request(post({ headers: { 'X-Mine': 'é' } }));
  assert.deepEqual([answer.status, answer.headers['x-many'], answer.body], [201, '1, 2', 'taken']);
  const [request] = vendor.requests;
  assert.deepEqual([request?.method, request?.path, request?.body], ['POST', '/in?a=1', '{"a":1}']);
  const sent = { ...request?.headers };
  assert.equal(sent['user-agent'], `Repeater/${manifest.version}`);
  assert.equal(sent['accept-encoding'], 'identity');
  assert.equal(sent['content-length'], '7');
  assert.equal(sent['x-mine'], 'é');
});

test('connections are kept: requests one after the other do not need one each', async (context) => {
  const own = open(context, { allowPrivateAddresses: true });
  for (let count = 0; count < 20; count++) await own.request(post());
  // The next request may begin a moment before undici knows that the connection is free again.
  const used = new Set(vendor.requests.map(({ connection }) => connection)).size;
  assert.ok(used <= 2, `20 requests used ${used} connections`);
});

test('a redirect is an answer and is not followed', async () => {
  for (const status of [301, 302, 303, 307, 308]) {
    vendor.play([{ status, headers: { location: `${vendor.origin}/elsewhere` } }]);
    assert.equal((await requester.request(post())).status, status);
    assert.equal(vendor.requests.length, 1);
  }
});

test('what comes before the answer (103 Early Hints) is not the answer', async (context) => {
  const raw = createServer((socket) =>
    socket.once('data', () =>
      socket.end('HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'),
    ),
  );
  const answer = await requester.request(post({ url: await listen(context, raw) }));
  assert.deepEqual([answer.status, answer.body], [200, 'ok']);
  assert.equal(answer.headers['link'], undefined);
});

test('64 KB of an answer are kept and the rest is not even fetched', async () => {
  vendor.play([{ status: 400, body: 'begin', hugeBytes: 200 * 1024 * 1024 }]);
  const answer = await requester.request(post());
  assert.equal(answer.status, 400);
  assert.equal(answer.body.length, 65_536);
  assert.ok(answer.body.startsWith('beginxxx'));
  const [request] = vendor.requests;
  await request?.closed;
  assert.ok((request?.sentBytes ?? Infinity) < 20 * 1024 * 1024, `${request?.sentBytes} bytes were sent`);
});

test('an answer that is compressed all the same is not decompressed', async () => {
  vendor.play([{ status: 400, body: 'x'.repeat(50 * 1024 * 1024), gzip: true }]);
  const answer = await requester.request(post());
  assert.equal(answer.headers['content-encoding'], 'gzip');
  assert.doesNotMatch(answer.body, /xxxx/);
  assert.ok(Buffer.byteLength(answer.body) <= 65_536);
});

test('NUL characters of an answer, which Postgres does not take, are replaced', async () => {
  vendor.play([{ body: 'a\0b' }, { body: '\0'.repeat(70_000) }]);
  assert.equal((await requester.request(post())).body, 'a\uFFFDb');
  // A replacement has three bytes: 64 KB are the limit of what is kept, not of what came.
  const { body } = await requester.request(post());
  assert.ok(Buffer.byteLength(body) <= 65_536, `${Buffer.byteLength(body)} bytes are kept`);
  assert.match(body, /^\uFFFD+$/);
});

test('the time limit covers waiting for the answer, its body and a free connection', async (context) => {
  const own = open(context, { allowPrivateAddresses: true, connectionsPerOrigin: 1 });
  for (const behaviour of ['never', { body: '{', dripMs: 5 }] as const) {
    vendor.play([behaviour]);
    const begin = performance.now();
    const waiting = own.request(post({ timeoutMs: 300 }));
    await vendor.received(1);
    // The only connection is taken: the second waits for it and runs out first.
    const second = await failure(own.request(post({ timeoutMs: 100 })));
    assert.equal(second.message, 'The endpoint did not answer within 0.1 s.');
    const error = await failure(waiting);
    assert.deepEqual([error.code, error.message], ['timeout', 'The endpoint did not answer within 0.3 s.']);
    const tookMs = performance.now() - begin;
    assert.ok(tookMs >= 290 && tookMs < 10_000, `it took ${tookMs} ms`);
    await vendor.requests[0]?.closed;
    assert.equal(vendor.requests.length, 1, 'what ran out while it waited was not sent');
  }
});

test('a connection that is refused, reset, cut or no HTTP says so in words', async (context) => {
  const closedPort = createServer();
  const nobody = await listen(context, closedPort);
  closedPort.close();
  await once(closedPort, 'close');
  assert.match((await failure(requester.request(post({ url: nobody })))).message, /refused the connection/);

  for (const behaviour of ['reset', { body: 'half', cut: true }] as const) {
    vendor.play([behaviour]);
    const error = await failure(requester.request(post()));
    assert.equal(error.message, 'The endpoint closed the connection before its answer was complete.');
  }

  const other = createServer((socket) => socket.once('data', () => socket.end('220 mail ready\r\n')));
  const mail = await listen(context, other);
  assert.equal(
    (await failure(requester.request(post({ url: mail })))).message,
    'The answer is not valid HTTP.',
  );
  const overTls = await failure(requester.request(post({ url: mail.replace('http:', 'https:') })));
  assert.equal(overTls.code, 'connection');
});

test('a name without an address, or that the resolver does not know, is no connection', async (context) => {
  const { lookup } = resolver({});
  const own = open(context, { allowPrivateAddresses: true, lookup });
  const error = await failure(own.request(post({ url: 'http://empty.example/' })));
  assert.deepEqual([error.code, error.message], ['dns', 'The host name has no address.']);
  const unknown: ResolveName = (_hostname, callback) =>
    callback(Object.assign(new Error('no'), { code: 'ENOTFOUND', syscall: 'getaddrinfo' }), []);
  const another = open(context, { allowPrivateAddresses: true, lookup: unknown });
  assert.equal((await failure(another.request(post({ url: 'http://nowhere.example/' })))).code, 'dns');
});

test('a name is resolved once for a connection, and that address is connected to', async (context) => {
  let answers = 0;
  const { asked, lookup } = resolver({
    'vendor.example': () => (answers++ === 0 ? ['127.0.0.1'] : ['127.0.0.2']),
  });
  const own = open(context, { allowPrivateAddresses: true, lookup, connectionsPerOrigin: 1 });
  const { port } = new URL(vendor.origin);
  const named = post({ url: `http://vendor.example:${port}/` });
  for (let count = 0; count < 3; count++) assert.equal((await own.request(named)).status, 200);
  assert.deepEqual(asked, ['vendor.example']);
  assert.equal(vendor.requests[0]?.headers.host, `vendor.example:${port}`);
});

test('a name whose address changes between check and connection (DNS rebinding) reaches nothing inside', async (context) => {
  // Assigned to nobody, so that nothing is reached outside either.
  const outside = '2fff::1';
  let answers = 0;
  const { asked, lookup } = resolver({
    'rebind.example': () => [answers++ % 2 === 0 ? outside : '127.0.0.1'],
    'mixed.example': () => [outside, '127.0.0.1'],
  });
  const own = open(context, { allowPrivateAddresses: false, lookup });
  const { port } = new URL(vendor.origin);
  let blocked = 0;
  for (let count = 0; count < 100; count++) {
    const { message } = await failure(
      own.request(post({ url: `http://rebind.example:${port}/`, timeoutMs: 30 })),
    );
    if (message === blockedText) blocked++;
  }
  assert.equal(asked.length, 100, 'asked once for each connection');
  assert.ok(blocked > 0);
  const mixed = await failure(own.request(post({ url: `http://mixed.example:${port}/` })));
  assert.equal(mixed.message, blockedText);
  assert.equal(vendor.requests.length, 0);
});

test('a blocked target says the same whether or not anything listens there', async (context) => {
  const { lookup } = resolver({
    'inside.example': () => ['127.0.0.1'],
    'router.example': () => ['10.0.0.1'],
  });
  const own = open(context, { allowPrivateAddresses: false, lookup });
  const { port } = new URL(vendor.origin);
  const texts = new Set<string>();
  for (const target of [
    `http://127.0.0.1:${port}/`,
    'http://127.0.0.1:1/',
    `http://[::1]:${port}/`,
    `http://localhost:${port}/`,
    `http://inside.example:${port}/`,
    'https://inside.example:1/',
    'http://router.example/',
    'http://169.254.169.254/latest/meta-data',
  ]) {
    const error = await failure(own.request(post({ url: target })));
    texts.add(`${error.code}: ${error.message}`);
  }
  assert.deepEqual([...texts], [`blocked_address: ${blockedText}`]);
  assert.equal(vendor.requests.length, 0);
});

test('headers that belong to the connection cannot be set, however they are spelled', async () => {
  for (const name of reservedHeaders) {
    for (const spelled of [name, name.toUpperCase()]) {
      const error = await failure(requester.request(post({ headers: { [spelled]: '1' } })));
      assert.deepEqual(
        [error.code, error.message],
        ['invalid_request', `The header ${spelled} cannot be set.`],
      );
    }
  }
  assert.equal(vendor.requests.length, 0);
});

test('a header or URL that would break out of its line is never sent', async () => {
  for (const headers of [
    { a: 'b\r\nc: d' },
    { a: 'b\nc' },
    { a: 'b\0' },
    { 'a b': 'c' },
    { 'a\r\nb': 'c' },
  ]) {
    const error = await failure(requester.request(post({ headers })));
    assert.equal(error.code, 'invalid_request', JSON.stringify(headers));
    assert.equal(error.message, 'The request holds a header or a path that is not valid.');
  }
  for (const bad of ['', 'in', '/in', 'file:///etc/passwd', 'http://me:secret@127.0.0.1/']) {
    assert.equal((await failure(requester.request(post({ url: bad })))).code, 'invalid_request', bad);
  }
  assert.equal(vendor.requests.length, 0);
});

test('an abort ends all that its signal holds and nothing else; later requests are not begun', async () => {
  vendor.play(['never']);
  const [ours, theirs] = [new AbortController(), new AbortController()];
  const other = requester.request(post({ timeoutMs: 60_000 }), theirs.signal);
  await vendor.received(1);
  const running = Array.from({ length: 5 }, () => requester.request(post(), ours.signal));
  await vendor.received(6);
  ours.abort();
  for (const answer of running) assert.equal((await failure(answer)).code, 'aborted');
  const [closedOfOther, ...closed] = vendor.requests.map((request) => request.closed.then(() => 'closed'));
  await Promise.all(closed);
  assert.equal(await Promise.race([closedOfOther, Promise.resolve('open')]), 'open');
  assert.equal((await failure(requester.request(post(), ours.signal))).code, 'aborted');
  assert.equal(vendor.requests.length, 6);
  theirs.abort();
  assert.equal((await failure(other)).code, 'aborted');
});

test('whichever requests have ended, an abort ends exactly the others', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom('ok', 'fail', 'stay'), { maxLength: 12 }), async (fates) => {
      vendor.play((request) => {
        const fate = request.path.split('/')[2];
        return fate === 'ok' ? {} : fate === 'fail' ? 'reset' : 'never';
      });
      const controller = new AbortController();
      const said: string[] = [];
      const answers = fates.map(async (fate, index) => {
        const one = post({ url: `${vendor.origin}/${index}/${fate}` });
        said[index] = await requester.request(one, controller.signal).then(
          ({ status }) => String(status),
          (error: RequestError) => error.code,
        );
      });
      await Promise.all(answers.filter((_, index) => fates[index] !== 'stay'));
      controller.abort();
      await Promise.all(answers);
      assert.deepEqual(
        said,
        fates.map((fate) => ({ ok: '200', fail: 'connection', stay: 'aborted' })[fate]),
      );
    }),
    { numRuns: 40 },
  );
});

test('a signal gets one listener, however many requests it holds', async () => {
  const controller = new AbortController();
  for (let count = 0; count < 20; count++) await requester.request(post(), controller.signal);
  await Promise.all(Array.from({ length: 20 }, () => requester.request(post(), controller.signal)));
  assert.equal(getEventListeners(controller.signal, 'abort').length, 1);
});

test('close ends what is in flight as aborted, and nothing is begun after', async (context) => {
  vendor.play(['never']);
  const own = open(context, { allowPrivateAddresses: true });
  const running = [own.request(post()), own.request(post(), new AbortController().signal)];
  await vendor.received(2);
  const ends = running.map(failure);
  await own.close();
  for (const error of await Promise.all(ends)) assert.equal(error.code, 'aborted');
  assert.equal((await failure(own.request(post()))).code, 'aborted');
});

async function listen(context: TestContext, server: ReturnType<typeof createServer>): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

test('an answer that came in time is an answer, though this process was too busy to read it in time', async () => {
  // On a thread of its own, the server answers while this one does nothing for longer than the limit.
  const server = new Worker(
    `const { createServer } = require('node:http');
     const { parentPort } = require('node:worker_threads');
     const server = createServer((request, response) => {
       parentPort.postMessage('asked');
       setTimeout(() => response.end('in time'), 50);
     });
     server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port));`,
    { eval: true },
  );
  try {
    const [port] = (await once(server, 'message')) as [number];
    const waiting = requester.request(post({ url: `http://127.0.0.1:${port}/`, timeoutMs: 200 }));
    await once(server, 'message');
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 400);
    assert.equal((await waiting).body, 'in time');
  } finally {
    await server.terminate();
  }
});
