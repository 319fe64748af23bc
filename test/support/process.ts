/**
 * A whole Repeater as a process of its own, as a stranger would start it: for tests that kill, stop and restart
 * it. Ready means that it said so. Every process still alive is killed when the test file ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';

/** The program's entry. */
export const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
export const adminToken = 'rpt_token-of-the-process-tests';
export const writeKey = 'write-key-of-the-process-tests';
const startMs = 60_000;

const alive = new Set<ChildProcess>();
after(() => {
  for (const child of alive) child.kill('SIGKILL');
});

export interface RepeaterProcess {
  /** `http://127.0.0.1:41234` */
  readonly address: string;
  readonly port: number;
  readonly child: ChildProcess;
  /** Everything written to stdout and stderr so far. */
  output(): string;
  /** The admin API; the parsed answer. @throws Error with the answer when its status is not 2xx */
  // Answers are looked into field by field, whatever they are.
  // oxlint-disable-next-line typescript/no-explicit-any
  admin(method: string, path: string, body?: unknown): Promise<any>;
  /** Sends the signal and resolves when the process is gone; SIGKILL unless told otherwise. */
  kill(signal?: NodeJS.Signals): Promise<void>;
}

/**
 * Starts `repeater serve`. `env` wins over the defaults: any free port on loopback, the tokens above, private
 * destinations allowed, log level info.
 * @throws Error with what it said when it ends early or is not ready in time
 */
export async function startRepeater(
  env: Readonly<Record<string, string>> = {},
  args: readonly string[] = ['serve'],
): Promise<RepeaterProcess> {
  const child = spawn(process.execPath, [main, ...args], {
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      PORT: '0',
      HOST: '127.0.0.1',
      ADMIN_TOKEN: adminToken,
      WRITE_KEY: writeKey,
      SECRET_KEY: 'the secret key of the process tests',
      ALLOW_PRIVATE_DESTINATIONS: 'true',
      LOG_LEVEL: 'info',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  alive.add(child);
  child.once('exit', () => alive.delete(child));
  let output = '';
  child.stderr?.on('data', (chunk: Buffer) => (output += chunk.toString()));
  const address = await new Promise<string>((resolve, reject) => {
    const late = setTimeout(() => fail('was not ready in time'), startMs);
    const fail = (why: string) => {
      clearTimeout(late);
      reject(new Error(`Repeater ${why}:\n${output}`));
    };
    child.once('exit', (code) => fail(`ended with ${code}`));
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
      output += `${line}\n`;
      const ready = /"address":"([^"]+)".*"msg":"ready"/.exec(line);
      if (!ready) return;
      clearTimeout(late);
      resolve(ready[1] as string);
    });
  });
  return {
    address,
    port: Number(new URL(address).port),
    child,
    output: () => output,
    async admin(method, path, body) {
      const response = await fetch(`${address}${path}`, {
        method,
        headers: { authorization: `Bearer ${env['ADMIN_TOKEN'] ?? adminToken}` },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
      return text === '' ? null : JSON.parse(text);
    },
    async kill(signal = 'SIGKILL') {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = once(child, 'exit');
      child.kill(signal);
      await gone;
    },
  };
}
