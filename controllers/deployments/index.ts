/**
 * Rolls Deployments out over replica sets (https://kubernetes.io/docs/concepts/workloads/controllers/deployment/). Started by `reckon run deployments`.
 */
import type { Deployment } from '../../api-schemas/types/apps-v1.ts';
import type { Controller } from '../../sdk/index.ts';
import { DEPLOYMENTS, keysForPod, keysForReplicaSet, observe, type Observed, PODS, REPLICA_SETS } from './observe.ts';
import { reconcile } from './reconcile.ts';

export const controller: Controller<Deployment, Observed> = {
  name: 'deployments',
  eventSource: { component: 'deployment-controller' },
  resource: DEPLOYMENTS,
  watches: [
    { resource: REPLICA_SETS, keysFor: keysForReplicaSet },
    { resource: PODS, keysFor: keysForPod },
  ],
  observe,
  reconcile,
};
