/**
 * Node selectors as they stand in a pod's node affinity and a volume's (https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#node-affinity). For controllers that choose nodes.
 */
import type { Node, NodeSelectorRequirement, NodeSelectorTerm } from '../api-schemas/types/core-v1.ts';

function holds(requirement: NodeSelectorRequirement, values: Readonly<Record<string, string>>): boolean {
  const value = Object.hasOwn(values, requirement.key) ? values[requirement.key] : undefined;
  const listed = requirement.values ?? [];
  switch (requirement.operator) {
    case 'In':
      return value !== undefined && listed.includes(value);
    case 'NotIn':
      return value === undefined || !listed.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
      return value !== undefined && Number(value) > Number(listed[0]);
    case 'Lt':
      return value !== undefined && Number(value) < Number(listed[0]);
    default:
      return false;
  }
}

/** The requirements of one term must all hold; a term without any matches nothing. */
export function matchesNodeSelectorTerm(term: NodeSelectorTerm, { metadata }: Pick<Node, 'metadata'>): boolean {
  const { matchExpressions = [], matchFields = [] } = term;
  return (
    matchExpressions.length + matchFields.length > 0 &&
    matchExpressions.every((one) => holds(one, metadata.labels ?? {})) &&
    matchFields.every((one) => holds(one, { 'metadata.name': metadata.name }))
  );
}

/** Terms are alternatives; none at all match nothing. */
export const matchesNodeSelector = (terms: readonly NodeSelectorTerm[], node: Pick<Node, 'metadata'>): boolean =>
  terms.some((term) => matchesNodeSelectorTerm(term, node));
