/** From a decoded body to stored events: one call or a batch, whose write key, and what is answered. */
import { AppError } from '../lib/errors.ts';
import { parseJson, type ParsedJson } from '../lib/json.ts';
import type { AcceptedEvent } from '../events/append.ts';
import type { RejectedEvent } from '../events/rejected.ts';
import type { EventValidator } from '../validation/catalogue.ts';
import type { Client } from './client.ts';
import { cutDeepEvents } from './deep-events.ts';
import type { GroupCommit } from './group-commit.ts';
import { maxBatchEvents, maxDepth, maxEventBytes } from './limits.ts';
import { factsOf, keptText, normalize, type Refusal, type RequestFacts } from './normalize.ts';
import type { RateLimit } from './rate-limit.ts';
import type { WriteKeys } from './write-key.ts';

export interface AcceptDeps {
  readonly validate: EventValidator;
  readonly writeKeys: WriteKeys;
  readonly groupCommit: GroupCommit;
  /** Null: as much as comes. */
  readonly rateLimit: RateLimit | null;
}

/** What a request says of itself beside its body. */
export interface Call {
  /** The call named by the path; null: a batch. */
  readonly type: string | null;
  /** Write keys found in Basic or Bearer authorization and in the query, in the order they are tried. */
  readonly keys: readonly string[];
  readonly client: Client;
}

/** One refused event of a batch, as answered. */
export interface RejectedItem {
  readonly index: number;
  readonly code: string;
  readonly field: string;
  readonly reason: string;
}

export interface Accepted {
  readonly sourceId: number;
  readonly accepted: number;
  readonly rejected: readonly RejectedItem[];
}

type Fields = Record<string, unknown>;

/**
 * Validates and stores; resolves after the commit. In a batch each event stands on its own.
 * @throws AppError for a body that cannot be read, an unknown key, a single bad event, or when storing failed.
 */
export async function acceptBody(deps: AcceptDeps, call: Call, bytes: Buffer): Promise<Accepted> {
  const { parsed, cutOut } = readJson(bytes, call.type === null);
  const body = parsed.value;
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new AppError('invalid_request', { message: 'The request body: expected a JSON object.' });
  }
  const fields = body as Fields;
  const { sourceId, key } = await findSource(deps.writeKeys, call.keys, fields['writeKey']);
  if (call.type !== null) {
    deps.rateLimit?.take(key, 1);
    return acceptOne(deps, call.type, fields, factsOf(sourceId, {}, parsed, call.client));
  }
  const batch = batchOf(fields);
  deps.rateLimit?.take(key, batch.length);
  return acceptBatch(deps, { batch, cutOut }, factsOf(sourceId, fields, parsed, call.client));
}

type CutOut = ReadonlyMap<number, Buffer> | null;

/**
 * Parses a body; of a batch that is nested too deep, all but the events that are.
 * @throws AppError when it cannot be read, or nothing is left of it
 */
function readJson(bytes: Buffer, isBatch: boolean): { readonly parsed: ParsedJson; readonly cutOut: CutOut } {
  try {
    return { parsed: parseJson(bytes, maxDepth), cutOut: null };
  } catch (error) {
    if (!isBatch || !(error instanceof AppError) || error.code !== 'too_deep') throw error;
    const { bytes: rest, cutOut } = cutDeepEvents(bytes, maxDepth);
    const parsed = parseJson(rest, maxDepth);
    const { batch } = parsed.value as Fields;
    if (Array.isArray(batch) && batch.length === cutOut.size) throw error;
    return { parsed, cutOut };
  }
}

function tooDeep(event: Buffer): { readonly refusal: Refusal } {
  return {
    refusal: {
      code: 'too_deep',
      problems: [{ field: '', expected: `to be nested at most ${maxDepth} levels deep` }],
      text: keptText(event.toString('utf8', 0, maxEventBytes)),
      type: null,
      messageId: null,
      userId: null,
      anonymousId: null,
    },
  };
}

/** @throws AppError when it is no list, or too long a one. */
function batchOf({ batch }: Fields): readonly unknown[] {
  if (!Array.isArray(batch))
    throw new AppError('invalid_request', { message: 'batch: expected a list of events.' });
  if (batch.length > maxBatchEvents) {
    throw new AppError('batch_too_long', {
      message: `batch: expected at most ${maxBatchEvents} events, got ${batch.length}.`,
    });
  }
  return batch;
}

async function acceptOne(
  deps: AcceptDeps,
  type: string,
  event: Fields,
  facts: RequestFacts,
): Promise<Accepted> {
  const result = normalize(event, type, facts, deps.validate);
  if ('event' in result) {
    await deps.groupCommit.store([result.event], []);
    return { sourceId: facts.sourceId, accepted: 1, rejected: [] };
  }
  const { refusal } = result;
  await deps.groupCommit.store([], [rejectedOf(facts.sourceId, refusal)]);
  throw new AppError(refusal.code, { message: reasonOf(refusal), details: refusal.problems });
}

async function acceptBatch(
  deps: AcceptDeps,
  { batch, cutOut }: { readonly batch: readonly unknown[]; readonly cutOut: CutOut },
  facts: RequestFacts,
): Promise<Accepted> {
  const events: AcceptedEvent[] = [];
  const kept: RejectedEvent[] = [];
  const rejected: RejectedItem[] = [];
  for (let index = 0; index < batch.length; index++) {
    const deep = cutOut?.get(index);
    const result = deep ? tooDeep(deep) : normalize(batch[index], null, facts, deps.validate);
    if ('event' in result) events.push(result.event);
    else {
      kept.push(rejectedOf(facts.sourceId, result.refusal));
      const [problem] = result.refusal.problems;
      rejected.push({
        index,
        code: result.refusal.code,
        field: problem?.field ?? '',
        reason: reasonOf(result.refusal),
      });
    }
  }
  if (events.length > 0 || kept.length > 0) await deps.groupCommit.store(events, kept);
  return { sourceId: facts.sourceId, accepted: events.length, rejected };
}

/** The key of the Basic or Bearer header if it is one of ours, else the body's: with OAuth, Bearer is no write key. */
async function findSource(
  writeKeys: WriteKeys,
  keys: readonly string[],
  inBody: unknown,
): Promise<{ readonly sourceId: number; readonly key: string }> {
  const candidates = typeof inBody === 'string' && inBody !== '' ? [...keys, inBody] : keys;
  for (const key of candidates) {
    const sourceId = await writeKeys.sourceOf(key);
    if (sourceId !== null) return { sourceId, key };
  }
  throw new AppError(
    'unknown_write_key',
    candidates.length > 0
      ? {}
      : { message: 'A write key is required: by Basic authorization or as writeKey in the body.' },
  );
}

function rejectedOf(sourceId: number, refusal: Refusal): RejectedEvent {
  return { sourceId, ...refusal };
}

/** `event: expected to be present, got nothing.` */
function reasonOf(refusal: Refusal): string {
  return refusal.problems
    .map(
      ({ field, expected, got }) =>
        `${field || 'event'}: expected ${expected}${got === undefined ? '' : `, got ${got}`}.`,
    )
    .join(' ');
}
