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

const inflate = promisify(gunzip);

/** @throws AppError body_too_large, invalid_encoding (Content-Encoding other than gzip, broken gzip), invalid_request (cut off). */
export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const sent = await collect(request);
  const encoding = request.headers['content-encoding']?.trim().toLowerCase() ?? 'identity';
  if (encoding === 'identity' || encoding === '') return sent;
  if (encoding !== 'gzip' && encoding !== 'x-gzip') {
    throw new AppError('invalid_encoding', { message: 'Content-Encoding: expected gzip or none.' });
  }
  try {
    return await inflate(sent, { maxOutputLength: maxBodyBytes });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ERR_BUFFER_TOO_LARGE') throw tooLarge();
    throw new AppError('invalid_encoding', { message: 'The request body is not valid gzip.', cause });
  }
}

function collect(request: IncomingMessage): Promise<Buffer> {
  if (Number(request.headers['content-length'] ?? 0) > maxBodyBytes) return Promise.reject(tooLarge());
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > maxBodyBytes) {
        // What still comes is neither kept nor waited for.
        request.removeAllListeners('data');
        request.pause();
        reject(tooLarge());
      } else chunks.push(chunk);
    });
    request.on('end', () => resolve(chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks)));
    request.on('error', (cause) =>
      reject(new AppError('invalid_request', { message: 'The request ended early.', cause })),
    );
    request.on('aborted', () =>
      reject(new AppError('invalid_request', { message: 'The request ended early.' })),
    );
  });
}

function tooLarge(): AppError {
  return new AppError('body_too_large', {
    message: `The request body is larger than ${maxBodyBytes} bytes.`,
  });
}
