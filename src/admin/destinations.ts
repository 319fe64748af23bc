/**
 * Destinations: creating one opens its live feed in the same transaction, so that no event falls between;
 * each change moves its version, by which workers notice. Deleting keeps the row (dead letters and replays
 * name it) but not its secrets.
 */
import type { Sql, Transaction } from '../db/client.ts';
import type { Catalogue, DestinationType } from '../destinations/catalogue.ts';
import { newestPosition } from '../events/read-range.ts';
import { AppError } from '../lib/errors.ts';
import { parsePublicId, publicId } from '../lib/ids.ts';
import type { DestinationPolicy } from '../routing/destinations.ts';
import { openFeed, setFeedState, wakeDestination } from '../routing/feeds.ts';
import { nextCursor, parseCursor } from './cursor.ts';
import * as inward from './destination-settings.ts';
import type { DestinationChange, NewDestination, Page } from './input.ts';
import { invalidRequest } from './validated.ts';

export interface DestinationDeps extends inward.SettingsDeps {
  readonly sql: Sql;
  readonly catalogue: Catalogue;
}

export interface Destination {
  readonly id: string;
  readonly type: string;
  readonly name: string;
  /** Secrets masked. */
  readonly settings: inward.Settings;
  readonly enabled: boolean;
  /** `disabled` by an admin, `paused` by the program because the destination refused us. */
  readonly state: 'active' | 'disabled' | 'paused';
  readonly pausedReason: string | null;
  readonly pausedAt: string | null;
  readonly policy: DestinationPolicy;
  readonly createdAt: string;
  readonly updatedAt: string;
}

export interface DestinationRow extends inward.StoredSettings {
  readonly id: number;
  readonly type: string;
  readonly name: string;
  readonly policy: DestinationPolicy;
  readonly enabled: boolean;
  readonly pausedReason: string | null;
  readonly pausedAt: string | null;
  readonly version: number;
  readonly createdAt: string;
  readonly updatedAt: string;
}

const columns = `id, type, name, settings, secrets, policy, enabled, paused_reason as "pausedReason",
  paused_at as "pausedAt", version, created_at as "createdAt", updated_at as "updatedAt"`;

/**
 * Creates a destination and its live feed. A secret that the type generated is in this answer and no other.
 * @throws AppError invalid_request, blocked_address
 */
export async function createDestination(deps: DestinationDeps, input: NewDestination): Promise<Destination> {
  const type = deps.catalogue.get(input.type);
  if (!type) {
    const known = deps.catalogue.list().map((each) => each.definition.slug);
    const got = JSON.stringify(input.type);
    throw invalidRequest([{ field: 'type', expected: `one of ${known.join(', ')}`, got }]);
  }
  const { settings, generated } = inward.completeSettings(type, input.settings);
  await inward.checkSettings(deps, type, settings);
  return deps.sql.begin(async (tx) => {
    const [made] = await tx<{ id: number }[]>`
      insert into repeater.destinations (type, name, settings, secrets, policy, enabled)
      values (${input.type}, ${input.name}, '{}', '{}', ${tx.json(input.policy)}, ${input.enabled}) returning id`;
    const id = (made as { id: number }).id;
    const row = await storeSettings(tx, id, inward.sealSettings(deps, type, { id, settings }));
    await openFeed(tx, {
      destinationId: id,
      kind: 'live',
      selection: null,
      listed: false,
      fromPosition: input.startFrom === 'beginning' ? 0 : await newestPosition(tx),
      toPosition: null,
      order: 'alongside',
      ratePerSecond: null,
      total: null,
      lanes: 'all',
    });
    const destination = present(deps, row);
    return { ...destination, settings: { ...destination.settings, ...generated } };
  });
}

/** All destinations, the oldest first. */
export async function listDestinations(
  deps: DestinationDeps,
  page: Page,
): Promise<{ data: Destination[]; next: string | null }> {
  const [after = 0] = parseCursor(page.cursor, ['number']) ?? [];
  const rows = await deps.sql<DestinationRow[]>`
    select ${deps.sql.unsafe(columns)} from repeater.destinations
    where deleted_at is null and id > ${after} order by id limit ${page.limit + 1}`;
  const data = rows.slice(0, page.limit).map((row) => present(deps, row));
  return { data, next: nextCursor(rows, page.limit, (row) => [row.id]) };
}

/** @throws AppError not_found */
export async function findDestination(deps: DestinationDeps, id: string): Promise<Destination> {
  return present(deps, await requireDestination(deps.sql, id));
}

/**
 * Changes what is given. The new settings are checked whole, as at the creation.
 * @throws AppError not_found, invalid_request, blocked_address
 */
export async function changeDestination(
  deps: DestinationDeps,
  publicDestinationId: string,
  change: DestinationChange,
): Promise<Destination> {
  const before = await requireDestination(deps.sql, publicDestinationId);
  const stored = change.settings && (await checkedChange(deps, before, change.settings));
  return deps.sql.begin(async (tx) => {
    const locked = await requireDestination(tx, publicDestinationId, 'for no key update');
    if (locked.version !== before.version) {
      throw new AppError('conflict', { message: 'The destination was changed at the same time; try again.' });
    }
    const { id } = locked;
    if (stored) await storeSettings(tx, id, stored);
    const [row] = await tx<DestinationRow[]>`
      update repeater.destinations set
        name = ${change.name ?? locked.name},
        enabled = ${change.enabled ?? locked.enabled},
        paused_reason = case when ${change.enabled ?? false} then null else paused_reason end,
        paused_at = case when ${change.enabled ?? false} then null else paused_at end,
        policy = ${tx.json(mergePolicy(locked.policy, change.policy ?? {}) as never)},
        version = version + 1, updated_at = clock_timestamp()
      where id = ${id} returning ${tx.unsafe(columns)}`;
    await wakeDestination(tx, id);
    return present(deps, row as DestinationRow);
  });
}

/** Stops every feed of the destination for good and forgets its secrets. @throws AppError not_found */
export async function deleteDestination(deps: DestinationDeps, publicDestinationId: string): Promise<void> {
  await deps.sql.begin(async (tx) => {
    const { id } = await requireDestination(tx, publicDestinationId, 'for no key update');
    await tx`
      update repeater.destinations
      set deleted_at = clock_timestamp(), updated_at = clock_timestamp(), enabled = false, secrets = '{}',
        version = version + 1
      where id = ${id}`;
    const feeds = await tx<{ id: number }[]>`
      select id from repeater.feeds where destination_id = ${id} and state in ('running', 'paused') order by id`;
    for (const feed of feeds) await setFeedState(tx, feed.id, 'cancelled');
  });
}

/** The row of a destination that was not deleted. @throws AppError not_found */
export async function requireDestination(
  sql: Sql | Transaction,
  publicDestinationId: string,
  lock: '' | 'for no key update' = '',
): Promise<DestinationRow> {
  const id = parsePublicId('dst', publicDestinationId);
  const [row] =
    id === null
      ? []
      : await sql<DestinationRow[]>`
          select ${sql.unsafe(columns)} from repeater.destinations
          where id = ${id} and deleted_at is null ${sql.unsafe(lock)}`;
  if (!row) throw new AppError('not_found', { message: `There is no destination ${publicDestinationId}.` });
  return row;
}

/** Whether deliveries go out, and if not, who stopped them. */
export function stateOf(row: Pick<DestinationRow, 'enabled' | 'pausedAt'>): Destination['state'] {
  if (!row.enabled) return 'disabled';
  return row.pausedAt === null ? 'active' : 'paused';
}

/** The type of a stored destination. @throws Error when its file is gone: the installation is broken. */
export function typeOf(deps: DestinationDeps, row: Pick<DestinationRow, 'type'>): DestinationType {
  const type = deps.catalogue.get(row.type);
  if (!type) throw new Error(`There is no destination type "${row.type}" in this version.`);
  return type;
}

async function checkedChange(
  deps: DestinationDeps,
  row: DestinationRow,
  change: inward.Settings,
): Promise<inward.StoredSettings> {
  const type = typeOf(deps, row);
  const settings = inward.mergeSettings(type, inward.unsealSettings(deps, row.id, row), change);
  await inward.checkSettings(deps, type, settings);
  return inward.sealSettings(deps, type, { id: row.id, settings });
}

async function storeSettings(
  tx: Transaction,
  id: number,
  stored: inward.StoredSettings,
): Promise<DestinationRow> {
  const [row] = await tx<DestinationRow[]>`
    update repeater.destinations
    set settings = ${tx.json(stored.settings as never)}, secrets = ${tx.json(stored.secrets)}
    where id = ${id} returning ${tx.unsafe(columns)}`;
  return row as DestinationRow;
}

function mergePolicy(present: DestinationPolicy, change: DestinationPolicy): DestinationPolicy {
  const retry = { ...present.retry, ...change.retry };
  return { ...present, ...change, ...(Object.keys(retry).length > 0 ? { retry } : {}) };
}

function present(deps: DestinationDeps, row: DestinationRow): Destination {
  const { id, type, name, policy, enabled, pausedReason, pausedAt, createdAt, updatedAt } = row;
  return {
    id: publicId('dst', id),
    type,
    name,
    settings: inward.maskSettings(deps, id, row),
    enabled,
    state: stateOf(row),
    pausedReason,
    pausedAt,
    policy,
    createdAt,
    updatedAt,
  };
}
