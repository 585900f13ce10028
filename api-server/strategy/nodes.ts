/** A node's agent registers its own node and no other, and gives it neither labels of Kubernetes' that are not for agents nor, afterwards, other taints. */
import { isDeepStrictEqual } from 'node:util';
import type { ApiObject } from '../../api-schemas/schema.ts';
import { nodeOf } from '../authentication/identity.ts';
import type { Call } from '../call.ts';
import { forbidden } from '../errors.ts';
import type { Kind } from './kinds.ts';

/** https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction */
const RESTRICTED = /(^|\.)node-restriction\.kubernetes\.io$/;
const RESERVED = /(^|\.)(kubernetes\.io|k8s\.io)$/;
/** Of those, an agent may set what tells of its machine. */
const FOR_AGENTS = /(^|\.)(kubelet|node)\.kubernetes\.io$/;
const FOR_AGENTS_BY_NAME = new Set([
  'kubernetes.io/hostname',
  'kubernetes.io/arch',
  'kubernetes.io/os',
  'beta.kubernetes.io/arch',
  'beta.kubernetes.io/os',
  'beta.kubernetes.io/instance-type',
  'failure-domain.beta.kubernetes.io/region',
  'failure-domain.beta.kubernetes.io/zone',
  'topology.kubernetes.io/region',
  'topology.kubernetes.io/zone',
]);

/** As it registers, an agent may also set reserved labels that nobody has given a meaning. */
function isKept(key: string, isNew: boolean): boolean {
  const [prefix = '', name] = key.split('/');
  if (name === undefined) return false;
  if (RESTRICTED.test(prefix)) return true;
  return !isNew && RESERVED.test(prefix) && !FOR_AGENTS.test(prefix) && !FOR_AGENTS_BY_NAME.has(key);
}

/** The labels kept from agents that differ. */
function keptLabels(object: ApiObject, old: ApiObject | undefined): string[] {
  const [now, then] = [object.metadata.labels ?? {}, old?.metadata.labels ?? {}];
  return [...new Set([...Object.keys(now), ...Object.keys(then)])]
    .filter((key) => now[key] !== then[key] && isKept(key, old === undefined))
    .toSorted();
}

const taintsOf = (object: ApiObject): unknown => (object['spec'] as { taints?: unknown[] } | undefined)?.taints ?? [];

function checkAgent(object: ApiObject, old: ApiObject | undefined, call: Call): void {
  const node = nodeOf(call.identity);
  if (node === undefined) return;
  const { name } = object.metadata;
  const refuse = (what: string) =>
    forbidden(call.definition, name, `node ${JSON.stringify(node)} is not allowed to ${what}`);
  const kept = keptLabels(object, old);
  if (name !== node) throw refuse(`modify node ${JSON.stringify(name)}`);
  if (kept.length > 0)
    throw forbidden(
      call.definition,
      name,
      `is not allowed to ${old ? 'modify' : 'set the following'} labels: ${kept.join(', ')}`,
    );
  if (old && !isDeepStrictEqual(taintsOf(object), taintsOf(old))) throw refuse('modify taints');
}

export const nodes: Kind = {
  prepareCreate: (object, call) => checkAgent(object, undefined, call),
  prepareUpdate: (object, old, call) => checkAgent(object, old, call),
};
