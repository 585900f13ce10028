/** Whether the node does for a Service what it should. Pure; called by the SDK's loop. */
import { sameJson, type Plan } from '../../sdk/index.ts';
import type { PortRule, ServiceObject } from './service-rules.ts';

export interface Observed {
  /** What the kernel was last given for this Service. */
  readonly installed: readonly PortRule[];
  /** What its EndpointSlices call for now; nothing once the Service is gone. */
  readonly wanted: readonly PortRule[];
}

export interface InstallAction {
  readonly verb: 'install';
  /** `namespace/name`. */
  readonly service: string;
  readonly rules: readonly PortRule[];
  readonly because: string;
}

export function reconcile({ metadata }: ServiceObject, { installed, wanted }: Observed): Plan<InstallAction> {
  if (sameJson(installed, wanted)) return { actions: [] };
  const targets = wanted.reduce((sum, rule) => sum + rule.targets.length, 0);
  const because =
    wanted.length === 0
      ? 'the Service has no address on the node any more'
      : `the Service's ${wanted.length} ports have ${targets} targets now`;
  return { actions: [{ verb: 'install', service: `${metadata.namespace}/${metadata.name}`, rules: wanted, because }] };
}
