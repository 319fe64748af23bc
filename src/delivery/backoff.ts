/** When to try again, and when to give up. Pure. Full jitter keeps users that failed together from coming back together. */

export interface RetryPolicy {
  /** Longest wait before the first retry. */
  readonly initialMs: number;
  /** Longest wait before any retry. */
  readonly maxMs: number;
  /** An event is not given up before it has failed for this long … */
  readonly spanMs: number;
  /** … and this often. */
  readonly minAttempts: number;
}

export const defaultRetryPolicy: RetryPolicy = {
  initialMs: 1_000,
  maxMs: 600_000,
  spanMs: 86_400_000,
  minAttempts: 10,
};

/** Wait after the given number of failed attempts (1 and up): a random part of initialMs x 2^(attempts - 1), capped. */
export function retryDelayMs(attempts: number, policy: RetryPolicy, random: () => number): number {
  // Beyond 2^40 the cap has long decided, and the power would overflow in the end.
  const longest = Math.min(policy.maxMs, policy.initialMs * 2 ** Math.min(40, attempts - 1));
  return Math.floor(random() * longest);
}

/** Whether an event that has failed for so long and so often is given up. */
export function isGivenUp(
  failing: { readonly failingMs: number; readonly attempts: number },
  policy: RetryPolicy,
): boolean {
  return failing.failingMs >= policy.spanMs && failing.attempts >= policy.minAttempts;
}
