/** A node's agent registers its own node and no other, and gives it neither the labels that are kept from agents nor, afterwards, other taints. */
import { isDeepStrictEqual } from 'node:util';
import type { ApiObject } from '../../api-schemas/schema.ts';
import { nodeOf } from '../authentication/identity.ts';
import type { Call } from '../call.ts';
import { forbidden } from '../errors.ts';
import type { Kind } from './kinds.ts';

/** https://kubernetes.io/docs/reference/access-authn-authz/admission-controllers/#noderestriction */
const RESTRICTED = 'node-restriction.kubernetes.io/';

const restricted = ({ metadata }: ApiObject): [string, string][] =>
  Object.entries(metadata.labels ?? {})
    .filter(([key]) => (key.split('/')[0] ?? '').endsWith(RESTRICTED.slice(0, -1)))
    .sort();

const taintsOf = (object: ApiObject): unknown => (object['spec'] as { taints?: unknown[] } | undefined)?.taints ?? [];

function checkAgent(object: ApiObject, old: ApiObject | undefined, call: Call): void {
  const node = nodeOf(call.identity);
  if (node === undefined) return;
  const { name } = object.metadata;
  const refuse = (what: string) =>
    forbidden(call.definition, name, `node ${JSON.stringify(node)} is not allowed to ${what}`);
  if (name !== node) throw refuse(`modify node ${JSON.stringify(name)}`);
  if (!isDeepStrictEqual(restricted(object), old ? restricted(old) : [])) throw refuse(`set labels of ${RESTRICTED}`);
  if (old && !isDeepStrictEqual(taintsOf(object), taintsOf(old))) throw refuse('modify taints');
}

export const nodes: Kind = {
  prepareCreate: (object, call) => checkAgent(object, undefined, call),
  prepareUpdate: (object, old, call) => checkAgent(object, old, call),
};
