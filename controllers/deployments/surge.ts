/**
 * How far a rolling update may go above and below the wanted count (https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#rolling-update-deployment). Used by every step of
 * the planner.
 */
import type { Deployment } from '../../api-schemas/types/apps-v1.ts';

type IntOrString = number | string;

export interface Allowance {
  /** Pods above the wanted count. */
  readonly maxSurge: number;
  /** Pods below the wanted count. */
  readonly maxUnavailable: number;
}

const DEFAULT_SHARE = '25%';

export const wantedReplicas = (deployment: Deployment): number => deployment.spec.replicas ?? 1;

export const isRecreate = (deployment: Deployment): boolean => deployment.spec.strategy?.type === 'Recreate';

/** Surge rounds up, unavailability rounds down; where both come to nothing, one pod may be unavailable, or nothing could move. */
export function allowance(deployment: Deployment): Allowance {
  if (isRecreate(deployment)) return { maxSurge: 0, maxUnavailable: 0 };
  const wanted = wantedReplicas(deployment);
  const rolling = deployment.spec.strategy?.rollingUpdate;
  const maxSurge = scaled(rolling?.maxSurge ?? DEFAULT_SHARE, wanted, Math.ceil);
  const maxUnavailable = scaled(rolling?.maxUnavailable ?? DEFAULT_SHARE, wanted, Math.floor);
  const unavailable = maxSurge === 0 && maxUnavailable === 0 ? 1 : maxUnavailable;
  return { maxSurge, maxUnavailable: Math.min(unavailable, wanted) };
}

function scaled(value: IntOrString, total: number, round: (share: number) => number): number {
  if (typeof value === 'number') return value;
  const percent = /^(\d+)%$/.exec(value);
  // In whole numbers, for 29 % of 100 is not 28.999.
  return percent ? round((Number(percent[1]) * total) / 100) : Number.parseInt(value, 10) || 0;
}
