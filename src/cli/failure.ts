/** Why a command ended without doing what was asked: one class per exit code, printed without a stack. */

interface CommandErrorOptions {
  /** What to do about it; may have several lines. */
  readonly hint?: string;
  /** Whether the same may work a little later: the server restarts, the network is back. */
  readonly mayPass?: boolean;
  readonly cause?: unknown;
}

/** It cannot be done, or not now: exit code 1. */
export class CommandError extends Error {
  readonly hint: string | undefined;
  readonly mayPass: boolean;

  constructor(message: string, { hint, mayPass = false, cause }: CommandErrorOptions = {}) {
    super(message, { cause });
    this.name = 'CommandError';
    this.hint = hint;
    this.mayPass = mayPass;
  }
}

/** The command line is wrong: exit code 2. */
export class UsageError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}

/** The admin API refused: its code, message and details. Exit code 1. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly details: unknown;

  constructor(answer: { status: number; code: string; message: string; details?: unknown }) {
    super(answer.message);
    this.name = 'ApiError';
    this.status = answer.status;
    this.code = answer.code;
    this.details = answer.details;
  }

  get mayPass(): boolean {
    return this.status >= 500 || this.status === 429;
  }

  /** Lines for a person: what was wrong with which field. */
  describe(): string[] {
    if (!Array.isArray(this.details)) return describeFields(this.details);
    return this.details.map((item: unknown) => {
      if (typeof item !== 'object' || item === null) return JSON.stringify(item);
      const { field, expected, got } = item as Record<string, unknown>;
      if (typeof expected !== 'string') return JSON.stringify(item);
      const found = got === undefined ? '' : `, got ${typeof got === 'string' ? got : JSON.stringify(got)}`;
      return `${typeof field === 'string' && field !== '' ? `${field}: ` : ''}expected ${expected}${found}`;
    });
  }
}

function describeFields(details: unknown): string[] {
  if (typeof details !== 'object' || details === null) return [];
  return Object.entries(details).map(
    ([name, value]) => `${name}: ${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
}
