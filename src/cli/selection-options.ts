/** The options that choose events, the same for replays and exports, and the selection they mean. */
import { type Command, Option } from 'commander';
import { wholeNumber } from './context.ts';
import { UsageError } from './failure.ts';
import { momentForms, parseMoment } from './moment.ts';

export interface SelectionOptions {
  readonly from?: string;
  readonly until?: string;
  readonly fromPosition?: number;
  readonly toPosition?: number;
  readonly source?: readonly string[];
  readonly type?: readonly string[];
  readonly event?: readonly string[];
  readonly user?: readonly string[];
}

/** The `selection` of the admin API. */
export interface Selection {
  readonly from?: string;
  readonly to?: string;
  readonly fromPosition?: number;
  readonly toPosition?: number;
  readonly sources?: readonly string[];
  readonly types?: readonly string[];
  readonly events?: readonly string[];
  readonly userIds?: readonly string[];
}

/** Kinds of calls. */
export const eventTypes = ['identify', 'track', 'page', 'screen', 'group', 'alias'] as const;

/** Explains times once, below the options. */
export const momentHelp = `
Times are when the event was accepted (its received_at), --from inclusive,
--until exclusive. They are local to this machine unless they name a zone;
"yesterday" is the local midnight it began with, "24h ago" is to the second.
Forms: 2026-01-31, 2026-01-31T09:15, 2026-01-31T09:15:00Z, now, today,
yesterday, "yesterday 14:30", "24h ago", 7d.`;

/** Adds the options that choose events. Lists may be given as several values or by repeating the option. */
export function withSelectionOptions(command: Command): Command {
  return command
    .option('--from <time>', 'accepted at or after this time')
    .option('--until <time>', 'accepted before this time')
    .option('--event <names...>', 'names of track events, e.g. "Order Completed"')
    .addOption(new Option('--type <types...>', 'kinds of calls').choices(eventTypes))
    .option('--user <ids...>', 'user ids')
    .option('--source <sources...>', 'ids or names of sources')
    .option('--from-position <position>', 'first position, inclusive', wholeNumber(0))
    .option('--to-position <position>', 'last position, inclusive', wholeNumber(0));
}

/** The selection that options mean. @throws UsageError for a time that cannot be read, or an empty span. */
export function selectionOf(options: SelectionOptions, now: Date): Selection {
  const from = momentOf('--from', options.from, now);
  const to = momentOf('--until', options.until, now);
  if (from !== undefined && to !== undefined && from >= to) {
    throw new UsageError(`--until (${to}) must be after --from (${from}).`);
  }
  const selection = {
    from,
    to,
    fromPosition: options.fromPosition,
    toPosition: options.toPosition,
    sources: options.source,
    types: options.type,
    events: options.event,
    userIds: options.user,
  };
  return Object.fromEntries(Object.entries(selection).filter(([, value]) => value !== undefined));
}

function momentOf(option: string, text: string | undefined, now: Date): string | undefined {
  if (text === undefined) return undefined;
  const moment = parseMoment(text, now);
  if (moment === null) throw new UsageError(`${option}: "${text}" is no time. Expected ${momentForms}.`);
  return moment;
}
