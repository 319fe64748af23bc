/** What an error thrown while sending means for the event. Answers are judged in destinations/answers.ts. */
import type { Outcome } from '../destinations/definition.ts';
import { RequestError } from './request-error.ts';

/**
 * Network errors and time-outs are tried again. A blocked address or a request that cannot be made is a mistake
 * in the settings: it pauses the destination, so that no event is lost to it. Anything else is a bug in the
 * destination's file: tried again like a failure, for the same reason.
 */
export function outcomeOfError(error: unknown): Outcome {
  if (!(error instanceof RequestError)) {
    return { kind: 'retry', reason: 'The destination could not handle the event; the log has the error.' };
  }
  if (error.code === 'blocked_address' || error.code === 'invalid_request') {
    return { kind: 'rejected', reason: error.message, destination: 'pause' };
  }
  return { kind: 'retry', reason: error.message };
}
