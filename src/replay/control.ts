/** Pausing, going on, cancelling and the rate of a replay. A replay that has ended stays as it is: conflict. */
import type { Sql, Transaction } from '../db/client.ts';
import { AppError } from '../lib/errors.ts';
import { publicId } from '../lib/ids.ts';
import { setFeedRate, setFeedState } from '../routing/feeds.ts';

/** Repeating an action that already holds changes nothing and is no error. */
export type ReplayAction = 'pause' | 'resume' | 'cancel';

const stateAfter = { pause: 'paused', resume: 'running', cancel: 'cancelled' } as const;

/**
 * Workers stop within a second or two of a pause or a cancellation; what is in flight ends.
 * @throws AppError not_found, conflict (already completed or cancelled)
 */
export async function controlReplay(sql: Sql, id: number, action: ReplayAction): Promise<void> {
  await sql.begin(async (tx) => {
    const state = await requireReplay(tx, id);
    if (!(await setFeedState(tx, id, stateAfter[action]))) throw endedError(id, state, action);
  });
}

/** @throws AppError not_found, conflict (already completed or cancelled) */
export async function setReplayRate(sql: Sql, id: number, ratePerSecond: number | null): Promise<void> {
  await sql.begin(async (tx) => {
    const state = await requireReplay(tx, id);
    if (!(await setFeedRate(tx, id, ratePerSecond))) throw endedError(id, state, 'change the rate of');
  });
}

async function requireReplay(tx: Transaction, id: number): Promise<string> {
  const [row] = await tx<{ state: string }[]>`
    select state from repeater.feeds where id = ${id} and kind = 'replay'`;
  if (!row) throw new AppError('not_found', { message: `There is no replay ${publicId('rpl', id)}.` });
  return row.state;
}

function endedError(id: number, state: string, action: string): AppError {
  return new AppError('conflict', {
    message: `Cannot ${action} replay ${publicId('rpl', id)}: it is ${state}.`,
  });
}
