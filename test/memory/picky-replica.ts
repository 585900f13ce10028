/**
 * A replica of a custom controller in a process of its own, for receipts.test.ts to pause and kill: it looks at ConfigMaps, and fails at those that hold `refuse: yes`. Arguments: kubeconfig, NATS URL.
 */
import { type ApiObject, type Controller, createLogger, runControllers } from '../../sdk/index.ts';

const [kubeconfig = '', natsUrl = ''] = process.argv.slice(2);
const resource = { group: '', version: 'v1', resource: 'configmaps' };

const picky: Controller<ApiObject, undefined> = {
  name: 'picky',
  resource,
  watches: [],
  observe: ({ namespace, name }, world) => {
    const desired = world.get(resource, namespace, name);
    return desired && { desired, observed: undefined };
  },
  reconcile: (desired) => {
    if ((desired['data'] as Record<string, string> | undefined)?.['refuse'] === 'yes') throw new Error('not this one');
    return { actions: [] };
  },
};

await runControllers([picky], { kubeconfig, natsUrl, logger: createLogger({ name: 'picky', level: 'silent' }) });
