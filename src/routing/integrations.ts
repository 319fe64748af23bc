/**
 * The `integrations` object, by which whoever sends an event says where it may go (Segment's spec, "common
 * fields"): a name is on unless it says false, an object of options is on, names not listed follow `All`, which is
 * on unless it says false. Names are case-sensitive.
 */

/** What can be asked of an event without looking into it. */
interface SentEvent {
  readonly text: string;
  readonly payload: Readonly<Record<string, unknown>>;
}

/** Whether the event may go to a destination with these names; the first of them that it lists decides. */
export function isWanted(event: SentEvent, names: readonly string[]): boolean {
  if (!saysSomething(event.text)) return true;
  const { integrations } = event.payload;
  if (typeof integrations !== 'object' || integrations === null) return true;
  const listed = [...names, 'All'].find((name) => Object.hasOwn(integrations, name));
  return listed === undefined || (integrations as Readonly<Record<string, unknown>>)[listed] !== false;
}

const key = '"integrations":';

/** Most events say nothing, or `{}`; searching their text costs a fiftieth of parsing it. */
function saysSomething(text: string): boolean {
  for (let at = text.indexOf(key); at >= 0; at = text.indexOf(key, at + key.length)) {
    // Postgres writes a space there, JSON.stringify none.
    const start = at + key.length + (text[at + key.length] === ' ' ? 1 : 0);
    if (text[start] === '{' && text[start + 1] !== '}') return true;
  }
  return false;
}
