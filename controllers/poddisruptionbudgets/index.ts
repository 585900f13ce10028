/**
 * Keeps the status of each PodDisruptionBudget: how many pods it covers, how many are healthy, and how many may be evicted at the moment. The API server's eviction (api-server/subresources/eviction.ts) decides by it.
 * https://kubernetes.io/docs/tasks/run-application/configure-pdb/
 */
import type { Controller } from '../../sdk/index.ts';
import {
  type Budget,
  BUDGETS,
  keysForPod,
  keysForWorkload,
  observe,
  type Observed,
  PODS,
  WORKLOADS,
} from './observe.ts';
import { reconcile } from './reconcile.ts';

export const controller: Controller<Budget, Observed> = {
  name: 'poddisruptionbudgets',
  resource: BUDGETS,
  watches: [
    { resource: PODS, keysFor: keysForPod },
    ...WORKLOADS.map((resource) => ({ resource, keysFor: keysForWorkload })),
  ],
  observe,
  reconcile,
};
