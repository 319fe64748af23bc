/** Events of about 0.9 KB as a server-side SDK sends them, cheap to make: only the ids differ. */
const user = '«user»';
const message = '«message»';

const template = JSON.stringify({
  type: 'track',
  event: 'Order Completed',
  userId: user,
  messageId: message,
  timestamp: '2026-11-24T09:15:00.000Z',
  properties: {
    orderId: '50314b8e9bcf000000000000',
    affiliation: 'Web shop',
    total: 127.5,
    subtotal: 122.5,
    revenue: 125,
    shipping: 3,
    tax: 2,
    discount: 2.5,
    coupon: 'hasbros',
    currency: 'EUR',
    products: [
      {
        productId: '507f1f77bcf86cd799439011',
        sku: '45790-32',
        name: 'Monopoly: 3rd edition',
        price: 19,
        quantity: 1,
      },
      {
        productId: '505bd76785ebb509fc183733',
        sku: '46493-32',
        name: 'Uno card game',
        price: 3,
        quantity: 2,
      },
    ],
  },
  context: {
    library: { name: '@segment/analytics-node', version: '3.1.0' },
    ip: '203.0.113.7',
    locale: 'en-GB',
    userAgent:
      'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36',
    page: { path: '/checkout/done', title: 'Thank you', url: 'https://shop.example/checkout/done' },
  },
  _metadata: { nodeVersion: '24.21.0', jsRuntime: 'node' },
});
const [before = '', between = '', end = ''] = template.split(new RegExp(`${user}|${message}`));

export function eventText(userId: string, messageId: string): string {
  return before + userId + between + messageId + end;
}

export function batchText(texts: readonly string[]): string {
  return `{"sentAt":"2026-11-24T09:15:00.120Z","batch":[${texts.join(',')}]}`;
}
