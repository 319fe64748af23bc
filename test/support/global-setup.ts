/**
 * For `node --test --test-global-setup`: one server for the whole run. Test files run in processes that
 * inherit this environment. Node runs the teardown after failures and on Ctrl-C too.
 */
import { startTestServer, type TestServer } from './test-server.ts';

let server: TestServer | undefined;

export async function globalSetup(): Promise<void> {
  server = await startTestServer(process.env['TEST_DATABASE_URL']);
  process.env['TEST_DATABASE_URL'] = server.url;
  process.env['TEST_DATABASE_TEMPLATE'] = server.template;
}

export async function globalTeardown(): Promise<void> {
  await server?.stop();
}
