/**
 * Nodes: which of them can be counted on. The agents' heartbeats are facts of the runtime state and stand in PostgreSQL; what follows from them is written to the log.
 */
import { keyIn, runControllers, type Controller, type Logger } from '../../sdk/index.ts';
import { GRACE_MS, NODES, PODS, reconcile, type NodeObject, type Observed, type PodObject } from './reconcile.ts';
import { Heartbeats } from './heartbeats.ts';

/** What `reckon run nodes` hands over. */
export interface NodesContext {
  readonly kubeconfig: string;
  readonly natsUrl: string;
  readonly databaseUrl: string;
  readonly logger: Logger;
}

function makeController(heartbeats: Heartbeats, databaseUrl: string): Controller<NodeObject, Observed> {
  return {
    name: 'nodes',
    eventSource: { component: 'node-controller' },
    resource: NODES,
    watches: [
      {
        resource: PODS,
        keysFor: (object, previous) => {
          const nodeName = (object as PodObject).spec?.nodeName;
          return nodeName && (previous as PodObject | undefined)?.spec?.nodeName !== nodeName
            ? [keyIn(NODES, '', nodeName)]
            : [];
        },
      },
    ],
    start: async ({ world, enqueue, signal }) => {
      const judge = () => {
        for (const { metadata } of world.list<NodeObject>(NODES)) {
          const silentMs = heartbeats.silentMs(metadata.name);
          if (silentMs !== undefined && silentMs >= GRACE_MS) enqueue(keyIn(NODES, '', metadata.name));
        }
      };
      heartbeats.start({ databaseUrl, signal, changed: judge });
    },
    observe(key, world, nowMs) {
      const node = world.get<NodeObject>(NODES, '', key.name);
      if (!node) return undefined;
      const pods = world.list<PodObject>(PODS).filter(({ spec }) => spec?.nodeName === key.name);
      return { desired: node, observed: { silentMs: heartbeats.silentMs(key.name), pods, nowMs } };
    },
    reconcile,
  };
}

export function start({ kubeconfig, natsUrl, databaseUrl, logger }: NodesContext): Promise<{ stop(): Promise<void> }> {
  return runControllers([makeController(new Heartbeats(logger), databaseUrl)], { kubeconfig, natsUrl, logger });
}
