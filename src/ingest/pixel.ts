/**
 * The pixel: an event in the address of an image, for mails and pages without scripts. Either
 * `data=<base64 of JSON>` or plain fields, `properties.total=42` for nested ones; values are then texts.
 */

/** A transparent GIF of one pixel. */
export const gif = Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'base64');

type Branch = Map<string, string | Branch>;

/** The event of a pixel's address as the body of a request. */
export function pixelBody(url: string): Buffer {
  const query = new URLSearchParams(url.includes('?') ? url.slice(url.indexOf('?')) : '');
  const data = query.get('data');
  // A plus sign that was not escaped has become a space.
  if (data !== null) return Buffer.from(data.replaceAll(' ', '+'), 'base64');
  const event: Branch = new Map();
  for (const [name, value] of query) put(event, name.split('.'), value);
  return Buffer.from(textOf(event));
}

function put(branch: Branch, [name = '', ...rest]: readonly string[], value: string): void {
  if (rest.length === 0) return void branch.set(name, value);
  let next = branch.get(name);
  if (!(next instanceof Map)) branch.set(name, (next = new Map()));
  put(next, rest, value);
}

/** Written by hand, since an object would not take a field named `__proto__`. */
function textOf(branch: string | Branch): string {
  if (typeof branch === 'string') return JSON.stringify(branch);
  return `{${[...branch].map(([name, value]) => `${JSON.stringify(name)}:${textOf(value)}`).join(',')}}`;
}
