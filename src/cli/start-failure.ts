/** A start that failed, as a sentence with advice: for the person at the terminal, and for who asked for a reload. */
import type { Config } from '../config/env.ts';
import { toError } from '../lib/errors.ts';
import { withoutPassword } from './banner.ts';
import { CommandError } from './failure.ts';

const absentCodes = ['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'ENOENT', 'CONNECT_TIMEOUT', '57P03'];

/** The database does not answer yet, or not at all. */
export function isAbsent(error: unknown): boolean {
  const { code } = toError(error) as NodeJS.ErrnoException;
  return code !== undefined && absentCodes.includes(code);
}

/** The cause keeps the rest. */
export function explain(thrown: unknown, config: Config, failed = 'Repeater could not start'): Error {
  const error = toError(thrown);
  const { code, path } = error as NodeJS.ErrnoException;
  const place = `${config.host}:${config.port}`;
  const { hostname } = error as { hostname?: unknown };
  if (code === 'EADDRINUSE') {
    const hint = `Is it running already? Else choose another port: PORT=${config.port + 1} npm start`;
    return new CommandError(`Port ${config.port} is in use (PORT, ${place}).`, { hint, cause: error });
  }
  if (code === 'EACCES' && 'port' in error) {
    return new CommandError(`Port ${config.port} may not be opened by this user (PORT).`, { cause: error });
  }
  if (code === 'EADDRNOTAVAIL' || hostname === config.host) {
    return new CommandError(`${config.host} is no address of this machine (HOST).`, { cause: error });
  }
  if (config.databaseUrl !== null && isAbsent(error)) {
    const hint = 'DATABASE_URL names the server; without it an embedded one is started.';
    const text = `The database at ${withoutPassword(config.databaseUrl)} does not answer (${code}).`;
    return new CommandError(text, { hint, cause: error });
  }
  if (code !== undefined && path?.startsWith(config.dataDir) === true) {
    const hint = 'It must be a folder of the user who starts Repeater; DATA_DIR names another.';
    const text = `The data folder ${config.dataDir} cannot be used (${code}).`;
    return new CommandError(text, { hint, cause: error });
  }
  const detail = config.logLevel === 'debug' || config.logLevel === 'trace' ? `\n${error.stack ?? ''}` : '';
  return new CommandError(`${failed}: ${error.message}${detail}`, { cause: error });
}
