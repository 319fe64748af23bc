/**
 * Appends a group that may hold an event Postgres refuses although the door let it through. Such an event
 * must never fail its neighbours: the group is halved until it stands alone, and then it is kept as rejected.
 */
import { sqlStateOf, type Sql } from '../db/client.ts';
import { toError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';
import { appendEvents, type AcceptedEvent } from './append.ts';
import { keepRejected } from './rejected.ts';

/** Errors of the data itself: data exceptions, violated constraints, limits of the server. */
const dataErrors = /^(?:22|23|54)/;

/** Stores what can be stored, in order; returns the lanes that got events. @throws on any other error; then nothing is promised. */
export async function appendGroup(
  deps: { readonly sql: Sql; readonly dedupHours: number; readonly log: Log },
  events: readonly AcceptedEvent[],
): Promise<readonly number[]> {
  try {
    return (await appendEvents(deps.sql, events, deps.dedupHours)).lanes;
  } catch (error) {
    const sqlState = sqlStateOf(error);
    if (sqlState === null || !dataErrors.test(sqlState)) throw error;
    const [first] = events;
    if (events.length === 1 && first) {
      deps.log.error(
        { messageId: first.messageId, code: sqlState },
        'an event that passed the door was refused by the database',
      );
      await keepRejected(deps.sql, [
        {
          ...first,
          code: 'invalid_event',
          problems: [{ field: '', expected: 'to be storable', got: toError(error).message }],
        },
      ]);
      return [];
    }
    const middle = events.length >> 1;
    const lanes = await appendGroup(deps, events.slice(0, middle));
    return [...new Set([...lanes, ...(await appendGroup(deps, events.slice(middle)))])];
  }
}
