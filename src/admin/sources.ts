/** Sources: where events come from, and the write keys that let apps append to them and nothing else. */
import type { Sql } from '../db/client.ts';
import { AppError } from '../lib/errors.ts';
import { newWriteKey, publicId } from '../lib/ids.ts';
import { nextCursor, parseCursor } from './cursor.ts';
import type { NewSource, Page } from './input.ts';
import { invalidRequest } from './validated.ts';

interface WriteKey {
  readonly key: string;
  readonly createdAt: string;
  readonly expiresAt: string | null;
}

export interface Source {
  readonly id: string;
  readonly name: string;
  readonly enabled: boolean;
  /** The newest valid one; null when all have expired. */
  readonly writeKey: string | null;
  readonly writeKeys: readonly WriteKey[];
  readonly createdAt: string;
}

interface SourceRow {
  readonly id: number;
  readonly name: string;
  readonly enabled: boolean;
  readonly createdAt: string;
}

/**
 * Creates a source with its first write key, a new one unless given.
 * @throws AppError conflict when the name or the key is taken.
 */
export async function createSource(sql: Sql, source: NewSource, writeKey = newWriteKey()): Promise<Source> {
  return sql.begin(async (tx) => {
    const [row] = await tx<SourceRow[]>`
      insert into repeater.sources (name) values (${source.name}) on conflict do nothing
      returning id, name, enabled, created_at as "createdAt"`;
    if (!row)
      throw new AppError('conflict', { message: `name: there is a source named "${source.name}" already.` });
    const [key] = await tx<{ createdAt: string }[]>`
      insert into repeater.write_keys (key, source_id) values (${writeKey}, ${row.id}) on conflict do nothing
      returning created_at as "createdAt"`;
    if (!key) throw new AppError('conflict', { message: 'The write key belongs to another source.' });
    return present(row, [{ key: writeKey, createdAt: key.createdAt, expiresAt: null }]);
  });
}

/** All sources, the oldest first. */
export async function listSources(sql: Sql, page: Page): Promise<{ data: Source[]; next: string | null }> {
  const [after = 0] = parseCursor(page.cursor, ['number']) ?? [];
  const rows = await sql<SourceRow[]>`
    select id, name, enabled, created_at as "createdAt" from repeater.sources
    where id > ${after} order by id limit ${page.limit + 1}`;
  const shown = rows.slice(0, page.limit);
  const keys = await sql<{ sourceId: number; key: string; createdAt: string; expiresAt: string | null }[]>`
    select source_id as "sourceId", key, created_at as "createdAt", expires_at as "expiresAt"
    from repeater.write_keys
    where source_id = any(${shown.map((row) => row.id)}::integer[]) and (expires_at is null or expires_at > now())
    order by created_at desc, key`;
  const keysOf = Map.groupBy(keys, (key) => key.sourceId);
  const data = shown.map((row) =>
    present(
      row,
      (keysOf.get(row.id) ?? []).map(({ key, createdAt, expiresAt }) => ({
        key,
        createdAt,
        expiresAt,
      })),
    ),
  );
  return { data, next: nextCursor(rows, page.limit, (row) => [row.id]) };
}

function present(row: SourceRow, writeKeys: readonly WriteKey[]): Source {
  return {
    id: publicId('src', row.id),
    name: row.name,
    enabled: row.enabled,
    writeKey: writeKeys[0]?.key ?? null,
    writeKeys,
    createdAt: row.createdAt,
  };
}

/**
 * The ids of sources given by id or name.
 * @throws AppError invalid_request naming the unknown ones.
 */
export async function resolveSources(sql: Sql, field: string, given: readonly string[]): Promise<number[]> {
  const rows = await sql<{ id: number; name: string }[]>`select id, name from repeater.sources`;
  const idOf = new Map(rows.flatMap((row) => [[publicId('src', row.id), row.id] as const]));
  // A source that was named like another's id must not take its place.
  for (const row of rows) if (!idOf.has(row.name)) idOf.set(row.name, row.id);
  const unknown = given.filter((text) => !idOf.has(text));
  if (unknown.length > 0) {
    throw invalidRequest(
      unknown.map((text) => ({ field, expected: 'the id or name of a source', got: JSON.stringify(text) })),
    );
  }
  return given.map((text) => idOf.get(text) as number);
}
