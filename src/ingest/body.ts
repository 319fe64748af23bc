/**
 * Reads a request body: bytes are counted on the stream, as sent and again after decompression, so neither
 * a chunked body nor a gzip bomb gets past the limit. The Content-Type is never looked at: SDKs send JSON
 * as text/plain and as a form.
 */
import type { IncomingMessage } from 'node:http';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { AppError } from '../lib/errors.ts';
import { maxBodyBytes } from './limits.ts';
import { Turns } from './turns.ts';

const inflate = promisify(gunzip);

/**
 * Many long bodies at once would cost their number times the limit. So what is longer than this is read, and what
 * is compressed is inflated, a few at a time; the others wait with what they have sent.
 */
const longBodyBytes = 262_144;
const longBodies = new Turns(4);
const inflations = new Turns(2);
/** How long one that sends slowly may keep the others waiting. */
const longestTurnMs = 5_000;

/** @throws AppError body_too_large, invalid_encoding (Content-Encoding other than gzip, broken gzip), invalid_request (cut off). */
export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const sent = await collect(request);
  const encoding = request.headers['content-encoding']?.trim().toLowerCase() ?? 'identity';
  if (encoding === 'identity' || encoding === '') return sent;
  if (encoding !== 'gzip' && encoding !== 'x-gzip') {
    throw new AppError('invalid_encoding', { message: 'Content-Encoding: expected gzip or none.' });
  }
  const endTurn = await inflations.take();
  try {
    return await inflate(sent, { maxOutputLength: maxBodyBytes });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge();
    throw new AppError('invalid_encoding', { message: 'The request body is not valid gzip.', cause });
  } finally {
    endTurn();
  }
}

function collect(request: IncomingMessage): Promise<Buffer> {
  if (Number(request.headers['content-length'] ?? 0) > maxBodyBytes) return Promise.reject(tooLarge());
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    let isLong = false;
    let isOver = false;
    let endTurn = () => {};
    const settle = (settled: () => void) => {
      isOver = true;
      endTurn();
      settled();
    };
    const fail = (error: AppError) =>
      settle(() => {
        // What still comes is neither kept nor waited for.
        request.removeAllListeners('data');
        request.pause();
        chunks.length = 0;
        reject(error);
      });
    const waitForTurn = async () => {
      isLong = true;
      request.pause();
      const end = await longBodies.take();
      const timer = setInterval(() => {
        if (longBodies.isWanted) fail(new AppError('overloaded', { retryAfterSeconds: 1 }));
      }, longestTurnMs);
      endTurn = () => {
        clearInterval(timer);
        end();
      };
      if (isOver) endTurn();
      else request.resume();
    };
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > maxBodyBytes) return fail(tooLarge());
      chunks.push(chunk);
      if (bytes > longBodyBytes && !isLong) void waitForTurn();
    });
    request.on('end', () =>
      settle(() => resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks))),
    );
    const cutOff = (cause?: unknown) =>
      fail(new AppError('invalid_request', { message: 'The request ended early.', cause }));
    request.on('error', cutOff);
    request.on('aborted', cutOff);
  });
}

function tooLarge(): AppError {
  return new AppError('body_too_large', {
    message: `The request body is larger than ${maxBodyBytes} bytes.`,
  });
}
