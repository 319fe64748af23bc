/** Takes webhooks and answers 200 at once. */
import { createServer } from 'node:http';
import { childArgument, serveParent } from './children.ts';

const { port } = childArgument() as { port: number };
let received = 0;
const server = createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    received++;
    response.writeHead(200, { 'content-length': '2' });
    response.end('ok');
  });
});
await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', 1_024, resolve));
serveParent(() => Promise.resolve(received));
