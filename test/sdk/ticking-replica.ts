/**
 * A replica of a controller in a process of its own, for leader.test.ts to stop, pause and kill: while it leads it writes its name into the ConfigMap `ticks` every few milliseconds.
 * Arguments: kubeconfig, NATS URL, name.
 */
import { type ApiObject, type Controller, createLogger, runControllers } from '../../sdk/index.ts';

const leaseMs = Number(process.env['TICKING_LEASE_MS'] ?? 5000);
const [kubeconfig = '', natsUrl = '', name = ''] = process.argv.slice(2);
const resource = { group: '', version: 'v1', resource: 'configmaps' };

const ticking: Controller<ApiObject, undefined> = {
  name: 'ticking',
  resource,
  watches: [],
  observe: (key, world) => {
    const desired = key.name === 'ticks' ? world.get(resource, key.namespace, key.name) : undefined;
    return desired && { desired, observed: undefined };
  },
  reconcile: (desired) => {
    const ticks = Number((desired['data'] as Record<string, string> | undefined)?.['ticks'] ?? 0) + 1;
    // Guarded: a write that was on its way when the process was paused may still arrive, and is then refused.
    const { name: configMap, namespace = '', resourceVersion } = desired.metadata;
    return {
      actions: [
        {
          verb: 'patch',
          resource,
          namespace,
          name: configMap,
          patch: { metadata: { resourceVersion }, data: { ticks: String(ticks), by: name } },
          because: 'time passes',
        },
      ],
      requeueAfterMs: 5,
    };
  },
};

const running = await runControllers([ticking], {
  kubeconfig,
  natsUrl,
  logger: createLogger({ name, level: process.env['RECKON_LOG_LEVEL'] ?? 'silent' }),
  leaseTimes: { leaseMs, renewDeadlineMs: leaseMs * 0.6, retryMs: 100 },
});
process.once('SIGTERM', () => void running.stop().then(() => process.exit(0)));
process.send?.('running');
