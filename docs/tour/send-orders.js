/**
 * Three orders of each of three users, sent with an unmodified Segment SDK: only host and write key are set.
 *
 *     WRITE_KEY=<write key> node docs/tour/send-orders.js [host]
 */
import { Analytics } from '@segment/analytics-node';

const analytics = new Analytics({
  writeKey: process.env.WRITE_KEY,
  host: process.argv[2] ?? 'http://127.0.0.1:8080',
});
for (const order of [1, 2, 3]) {
  for (const userId of ['ann', 'ben', 'eve']) {
    analytics.track({ userId, event: 'Order Completed', properties: { order, total: 10 * order } });
  }
}
await analytics.closeAndFlush();
