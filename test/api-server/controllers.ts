/**
 * Built-in controllers in this process, on an API server of `api.ts`, each with the identity that it has in an instance. For tests that need what the control plane does by itself but no node.
 */
import path from 'node:path';
import pino from 'pino';
import { writeKubeconfig } from '../../cli/instance/kubeconfig.ts';
import { runControllers, type RunningControllers } from '../../sdk/run.ts';
import type { AnyController } from '../../sdk/controller-loop.ts';
import type { Teardown } from '../harness/servers.ts';
import { authorityCertificate, type Api } from './api.ts';

export async function startControllers(
  t: Teardown,
  api: Api,
  controllers: readonly AnyController[],
  /** The folder of `controllers/` that each belongs to; default its own name. */
  folderOf: (name: string) => string = (name) => name,
): Promise<RunningControllers> {
  const fileOf = (name: string): string => path.join(api.folder, `${name}.kubeconfig`);
  for (const { name } of controllers) {
    const user = `system:controller:${folderOf(name)}`;
    await writeKubeconfig(fileOf(name), {
      server: `https://127.0.0.1:${api.port}`,
      ca: authorityCertificate,
      user,
      credentials: api.credentials(user),
    });
  }
  const running = await runControllers(controllers, {
    kubeconfig: fileOf,
    natsUrl: api.natsUrl,
    streamPrefix: api.prefix,
    leaderElection: false,
    logger: pino({ level: process.env['RECKON_TEST_LOG'] ?? 'silent' }, pino.destination(2)),
  });
  t.teardown(() => running.stop());
  return running;
}
