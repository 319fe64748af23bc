/** Errors as answers: an AppError shows its public face, anything else is a 500 that says only where to look. */
import { randomUUID } from 'node:crypto';
import type { Context } from 'hono';
import { HTTPException } from 'hono/http-exception';
import { AppError, toError } from '../lib/errors.ts';
import type { Log } from '../lib/log.ts';

/** Answers `{ code, message, details? }` with the error's status, and Retry-After where it says when to come back. */
export function answerError(error: AppError): Response {
  const { code, message, details, status, retryAfterSeconds } = error;
  return Response.json(
    { code, message, ...(details === undefined ? {} : { details }) },
    { status, headers: retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) } },
  );
}

/** Hono's error handler. */
export function createErrorHandler(log: Log): (thrown: Error, c: Context) => Response {
  return (thrown, c) => {
    if (thrown instanceof AppError) return answerError(thrown);
    if (thrown instanceof HTTPException) {
      return answerError(new AppError('invalid_request', { message: thrown.message }));
    }
    const requestId = randomUUID();
    log.error({ err: toError(thrown), requestId, path: c.req.path }, 'a request failed');
    return answerError(
      new AppError('internal_error', {
        message: `Something went wrong on this server; its log has it under ${requestId}.`,
      }),
    );
  };
}
