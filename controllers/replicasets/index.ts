/**
 * Keeps as many pods as each ReplicaSet wants (https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/). Started by `reckon run replicasets`.
 */
import type { ReplicaSet } from '../../api-schemas/types/apps-v1.ts';
import type { Controller } from '../../sdk/index.ts';
import { keysForPod, observe, type Observed, PODS, REPLICA_SETS } from './observe.ts';
import { reconcile } from './reconcile.ts';

export const controller: Controller<ReplicaSet, Observed> = {
  name: 'replicasets',
  eventSource: { component: 'replicaset-controller' },
  resource: REPLICA_SETS,
  watches: [{ resource: PODS, keysFor: keysForPod }],
  concurrency: 8,
  observe,
  reconcile,
};
