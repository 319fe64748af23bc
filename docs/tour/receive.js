/**
 * A receiver of webhooks for the tour in README.md, and the shape of a real one: it checks the signature over the
 * raw body, answers quickly, and prints a line for each event.
 *
 *     node docs/tour/receive.js <secret> [port]
 */
import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';
import { Webhook } from 'standardwebhooks';

const [secret, port = '9000'] = process.argv.slice(2);
if (secret === undefined) throw new Error('usage: node docs/tour/receive.js <secret> [port]');
const webhook = new Webhook(secret);

const server = createServer(async (request, response) => {
  const body = await text(request);
  try {
    webhook.verify(body, request.headers);
  } catch {
    response.writeHead(400).end('The signature is not valid.\n');
    return;
  }
  response.writeHead(204).end();
  const { userId, event, properties } = JSON.parse(body);
  const replay = request.headers['x-replay-id'] ?? 'live';
  console.log(`${request.url}  ${replay}  ${userId}  ${event}  ${JSON.stringify(properties)}`);
});
server.listen(Number(port), '127.0.0.1', () => console.log(`Waiting on http://127.0.0.1:${port}`));
