/** Replays as the admin API speaks of them: public ids, sources by name, times in any ISO form; the work is in replay/. */
import { AppError } from '../lib/errors.ts';
import { parsePublicId, publicId } from '../lib/ids.ts';
import { controlReplay, type ReplayAction, setReplayRate } from '../replay/control.ts';
import { createReplay } from '../replay/create.ts';
import { doneOf, findReplay, listReplays, type Replay as ReplayRow } from '../replay/list.ts';
import { previewReplay } from '../replay/preview.ts';
import type { ProgressMeter } from '../replay/progress.ts';
import type { ReplaySelection as StoredSelection } from '../replay/selected-events.ts';
import type { Selection } from '../routing/selection.ts';
import { nextCursor, parseCursor } from './cursor.ts';
import { type DestinationDeps, requireDestination, stateOf, typeOf } from './destinations.ts';
import { presentEvent, type PresentedEvent, selectionOf } from './events.ts';
import type { NewReplay, ReplayPage } from './input.ts';

export interface ReplayDeps extends DestinationDeps {
  readonly progress: ProgressMeter;
}

export interface Replay {
  readonly id: string;
  readonly destinationId: string;
  /** Bounds in UTC, sources as ids. */
  readonly selection: Omit<Selection, 'sources'> & {
    readonly sources?: readonly string[];
    readonly deadLettersOnly?: boolean;
  };
  readonly order: 'alongside' | 'before-live';
  readonly state: 'running' | 'paused' | 'completed' | 'cancelled';
  readonly total: number;
  readonly done: number;
  readonly delivered: number;
  readonly dead: number;
  readonly filtered: number;
  readonly ratePerSecond: number | null;
  readonly etaSeconds: number | null;
  readonly createdAt: string;
  readonly finishedAt: string | null;
}

export interface Preview extends Omit<Awaited<ReturnType<typeof previewReplay>>, 'samples'> {
  readonly samples: readonly PresentedEvent[];
}

/** @throws AppError not_found (no such destination), invalid_request */
export async function previewNewReplay(deps: ReplayDeps, input: NewReplay): Promise<Preview> {
  const row = await requireDestination(deps.sql, input.destinationId);
  const { definition } = typeOf(deps, row);
  const target = {
    destinationId: row.id,
    typeName: definition.name,
    accepts: definition.accepts,
    replay: definition.replay,
  };
  const selection = await storedSelection(deps, input);
  const preview = await previewReplay(deps.sql, target, { selection, ratePerSecond: input.ratePerSecond });
  const standing = {
    active: [],
    disabled: ['The destination is disabled'],
    paused: ['The destination is paused'],
  };
  const warnings = standing[stateOf(row)].map((words) => `${words}: nothing is sent until it is enabled.`);
  return {
    ...preview,
    samples: preview.samples.map(presentEvent),
    warnings: [...warnings, ...preview.warnings],
  };
}

/** @throws AppError not_found (no such destination), invalid_request */
export async function startReplay(deps: ReplayDeps, input: NewReplay): Promise<Replay> {
  const { id: destinationId } = await requireDestination(deps.sql, input.destinationId);
  const { order, ratePerSecond } = input;
  const selection = await storedSelection(deps, input);
  return readReplay(deps, await createReplay(deps.sql, { destinationId, selection, order, ratePerSecond }));
}

/** The newest first. */
export async function pageReplays(
  deps: ReplayDeps,
  page: ReplayPage,
): Promise<{ data: Replay[]; next: string | null }> {
  const [before] = parseCursor(page.cursor, ['number']) ?? [];
  const destinationId = page.destinationId === undefined ? null : parsePublicId('dst', page.destinationId);
  if (page.destinationId !== undefined && destinationId === null) return { data: [], next: null };
  const rows = await listReplays(deps.sql, {
    destinationId,
    before: typeof before === 'number' ? before : null,
    limit: page.limit + 1,
  });
  const data = rows.slice(0, page.limit).map((row) => present(deps, row));
  return { data, next: nextCursor(rows, page.limit, (row) => [row.id]) };
}

/** @throws AppError not_found */
export async function showReplay(deps: ReplayDeps, id: string): Promise<Replay> {
  return readReplay(deps, requireReplayId(id));
}

/** @throws AppError not_found, conflict (already ended) */
export async function actOnReplay(deps: ReplayDeps, id: string, action: ReplayAction): Promise<Replay> {
  const feedId = requireReplayId(id);
  await controlReplay(deps.sql, feedId, action);
  return readReplay(deps, feedId);
}

/** @throws AppError not_found, conflict (already ended) */
export async function changeReplay(
  deps: ReplayDeps,
  id: string,
  ratePerSecond: number | null,
): Promise<Replay> {
  const feedId = requireReplayId(id);
  await setReplayRate(deps.sql, feedId, ratePerSecond);
  return readReplay(deps, feedId);
}

async function storedSelection(deps: ReplayDeps, { selection }: NewReplay): Promise<StoredSelection> {
  const { deadLettersOnly, ...filter } = selection;
  const stored = await selectionOf(deps.sql, filter, 'selection.');
  return deadLettersOnly === undefined ? stored : { ...stored, deadLettersOnly };
}

async function readReplay(deps: ReplayDeps, id: number): Promise<Replay> {
  const row = await findReplay(deps.sql, id);
  if (!row) throw new AppError('not_found', { message: `There is no replay ${publicId('rpl', id)}.` });
  return present(deps, row);
}

function requireReplayId(id: string): number {
  const feedId = parsePublicId('rpl', id);
  if (feedId === null) throw new AppError('not_found', { message: `There is no replay ${id}.` });
  return feedId;
}

function present({ progress }: ReplayDeps, row: ReplayRow): Replay {
  const { id, destinationId, selection, order, state, total, delivered, dead, filtered, ratePerSecond } = row;
  const { createdAt, finishedAt } = row;
  const { sources, ...rest } = selection;
  return {
    id: publicId('rpl', id),
    destinationId: publicId('dst', destinationId),
    selection: { ...rest, ...(sources && { sources: sources.map((source) => publicId('src', source)) }) },
    order,
    state,
    total,
    done: doneOf(row),
    delivered,
    dead,
    filtered,
    ratePerSecond,
    etaSeconds: progress.etaSeconds(row),
    createdAt,
    finishedAt,
  };
}
