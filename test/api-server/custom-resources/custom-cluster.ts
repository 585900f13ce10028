/**
 * An API server with the controllers that custom kinds concern, all in this process and on a prefix of their own. Used by the tests of this folder that need one.
 */
import pino from 'pino';
import { controller as definitions } from '../../../controllers/customresourcedefinitions/index.ts';
import type { AnyController } from '../../../sdk/controller-loop.ts';
import { readKubeconfig, runControllers, type RunningControllers } from '../../../sdk/index.ts';
import type { Teardown } from '../../harness/servers.ts';
import { startApi, type Api, type ApiOptions, type Json } from '../api.ts';

/** Every controller acts under the identity that it has in a real instance, so that its rights are tried too. */
export async function runOn(t: Teardown, api: Api, controllers: readonly AnyController[]): Promise<RunningControllers> {
  const { server, ca } = readKubeconfig(api.kubeconfig);
  const logger = pino({ level: process.env['RECKON_TEST_LOG'] ?? 'silent' }, pino.destination(2));
  const own = await Promise.all(
    controllers.map((controller) => {
      const { cert, key } = api.credentials(`system:controller:${controller.name}`);
      return runControllers([controller], {
        access: { server, ca, cert: Buffer.from(cert), key: Buffer.from(key), token: undefined },
        natsUrl: api.natsUrl,
        streamPrefix: api.prefix,
        leaderElection: false,
        logger,
      });
    }),
  );
  t.teardown(async () => void (await Promise.all(own.map((each) => each.stop()))));
  const [first] = own;
  if (!first) throw new Error('there is no controller to run');
  return first;
}

export async function startCustomApi(t: Teardown, options: ApiOptions = {}): Promise<Api> {
  const api = await startApi(t, options);
  await runOn(t, api, [definitions]);
  return api;
}

export const CRDS = '/apis/apiextensions.k8s.io/v1/customresourcedefinitions';

export const conditionOf = (definition: Json, type: string): Json =>
  definition?.status?.conditions?.find((condition: Json) => condition.type === type);

/** Creates a definition and waits until it is established. */
export async function establish(api: Api, definition: Json): Promise<Json> {
  const made = await api.post(CRDS, definition);
  if (made.status !== 201) throw new Error(`the definition is refused: ${made.text}`);
  return established(api, definition.metadata.name as string);
}

export function established(api: Api, name: string): Promise<Json> {
  return until(
    async () => (await api.get(`${CRDS}/${name}`)).body as Json,
    (found) => conditionOf(found, 'Established')?.status === 'True',
  );
}

/** Asks until the answer satisfies; throws with the last answer when that takes too long. */
export async function until<T>(
  ask: () => Promise<T> | T,
  satisfies: (answer: T) => boolean,
  timeoutMs = 20_000,
): Promise<T> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const answer = await ask();
    if (satisfies(answer)) return answer;
    if (Date.now() > deadline) throw new Error(`not in time; last seen: ${JSON.stringify(answer)?.slice(0, 2000)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
