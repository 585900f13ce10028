/**
 * What other pods have to say about where a pod may run: required affinity and anti-affinity, its own and that of pods that run already, and topology spread.
 * https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/#inter-pod-affinity-and-anti-affinity and …/topology-spread-constraints/
 */
import type { Node, Pod, PodAffinityTerm, TopologySpreadConstraint } from '../../api-schemas/types/core-v1.ts';
import { matchesSelector, type LabelSelector } from '../../sdk/index.ts';
import { matchesNodeAffinity, type Candidate } from './fit.ts';

/** A pod that has its node. */
export interface Placed {
  readonly pod: Pod;
  readonly nodeName: string;
}

export interface Neighbourhood {
  /** Every placed pod; may be left empty for a pod that asks for no neighbours (`concernsNeighbours`). */
  readonly placed: readonly Placed[];
  /** Placed pods that keep others away. */
  readonly guards: readonly Placed[];
  /** Labels of namespaces, by name. */
  readonly namespaces: ReadonlyMap<string, Readonly<Record<string, string>>>;
}

const REQUIRED = 'requiredDuringSchedulingIgnoredDuringExecution';

const affinityTerms = (pod: Pod): readonly PodAffinityTerm[] => pod.spec?.affinity?.podAffinity?.[REQUIRED] ?? [];
export const antiAffinityTerms = (pod: Pod): readonly PodAffinityTerm[] =>
  pod.spec?.affinity?.podAntiAffinity?.[REQUIRED] ?? [];
const spreadConstraints = (pod: Pod): readonly TopologySpreadConstraint[] =>
  (pod.spec?.topologySpreadConstraints ?? []).filter(
    ({ whenUnsatisfiable }) => whenUnsatisfiable === undefined || whenUnsatisfiable === 'DoNotSchedule',
  );

/** Whether it matters to the pod where others are. */
export const concernsNeighbours = (pod: Pod): boolean =>
  affinityTerms(pod).length + antiAffinityTerms(pod).length + spreadConstraints(pod).length > 0;

type Namespaces = Neighbourhood['namespaces'];

function narrowed(
  selector: LabelSelector | undefined,
  labels: Readonly<Record<string, string>>,
  keys: { readonly match?: readonly string[] | undefined; readonly mismatch?: readonly string[] | undefined },
): LabelSelector | undefined {
  if (!selector) return undefined;
  const added = (names: readonly string[] | undefined, operator: 'In' | 'NotIn') =>
    (names ?? []).flatMap((key) => {
      const value = labels[key];
      return value === undefined ? [] : [{ key, operator, values: [value] }];
    });
  const matchExpressions = [
    ...(selector.matchExpressions ?? []),
    ...added(keys.match, 'In'),
    ...added(keys.mismatch, 'NotIn'),
  ];
  return { ...selector, matchExpressions };
}

/** Whether a term of `owner` speaks of `other`. */
function speaksOf(term: PodAffinityTerm, owner: Pod, other: Pod, namespaces: Namespaces): boolean {
  const namespace = other.metadata.namespace ?? '';
  const listed = term.namespaces ?? [];
  const isThere =
    listed.length === 0 && term.namespaceSelector === undefined
      ? namespace === owner.metadata.namespace
      : listed.includes(namespace) || matchesSelector(term.namespaceSelector, namespaces.get(namespace) ?? {});
  const keys = { match: term.matchLabelKeys, mismatch: term.mismatchLabelKeys };
  return (
    isThere && matchesSelector(narrowed(term.labelSelector, owner.metadata.labels ?? {}, keys), other.metadata.labels)
  );
}

type Judge = (node: Node) => string | undefined;

const valueOf = (node: Node | undefined, key: string): string | undefined => node?.metadata.labels?.[key];

/** Looks at all placed pods once; what it returns is asked node by node for reasons against. */
export function judgeNeighbours(
  pod: Pod,
  neighbourhood: Neighbourhood,
  candidates: readonly Candidate[],
): (node: Node) => string[] {
  const nodes = new Map(candidates.map(({ node }) => [node.metadata.name, node]));
  const judges = [
    ...spreadJudges(pod, neighbourhood, candidates, nodes),
    ...affinityJudges(pod, neighbourhood, nodes),
    ...antiAffinityJudges(pod, neighbourhood, nodes),
    guardJudge(pod, neighbourhood, nodes),
  ];
  return (node) => [...new Set(judges.flatMap((judge) => judge(node) ?? []))];
}

type Nodes = ReadonlyMap<string, Node>;

/** Each value of the topology label under which a pod stands that the term speaks of. */
function domainsOf(term: PodAffinityTerm, pod: Pod, { placed, namespaces }: Neighbourhood, nodes: Nodes): Set<string> {
  const values = new Set<string>();
  for (const other of placed) {
    const value = valueOf(nodes.get(other.nodeName), term.topologyKey);
    if (value !== undefined && !values.has(value) && speaksOf(term, pod, other.pod, namespaces)) values.add(value);
  }
  return values;
}

function affinityJudges(pod: Pod, neighbourhood: Neighbourhood, nodes: Nodes): Judge[] {
  const terms = affinityTerms(pod).map((term) => ({
    key: term.topologyKey,
    domains: domainsOf(term, pod, neighbourhood, nodes),
    matchesItself: speaksOf(term, pod, pod, neighbourhood.namespaces),
  }));
  // The first of a group of pods that want each other's company may go anywhere.
  const isFirst = terms.every(({ domains, matchesItself }) => domains.size === 0 && matchesItself);
  return terms.map(({ key, domains }) => (node) => {
    const value = valueOf(node, key);
    return value !== undefined && (isFirst || domains.has(value))
      ? undefined
      : "node(s) didn't match pod affinity rules";
  });
}

const antiAffinityJudges = (pod: Pod, neighbourhood: Neighbourhood, nodes: Nodes): Judge[] =>
  antiAffinityTerms(pod).map((term) => {
    const domains = domainsOf(term, pod, neighbourhood, nodes);
    return (node) =>
      domains.has(valueOf(node, term.topologyKey) ?? '') ? "node(s) didn't match pod anti-affinity rules" : undefined;
  });

/** Pods that run already may not want this one near them. */
function guardJudge(pod: Pod, { guards, namespaces }: Neighbourhood, nodes: Nodes): Judge {
  const closed = new Map<string, Set<string>>();
  for (const guard of guards) {
    for (const term of antiAffinityTerms(guard.pod)) {
      const value = valueOf(nodes.get(guard.nodeName), term.topologyKey);
      if (value === undefined || !speaksOf(term, guard.pod, pod, namespaces)) continue;
      closed.set(term.topologyKey, (closed.get(term.topologyKey) ?? new Set()).add(value));
    }
  }
  return (node) =>
    [...closed].some(([key, values]) => values.has(valueOf(node, key) ?? ''))
      ? "node(s) didn't satisfy existing pods anti-affinity rules"
      : undefined;
}

function spreadJudges(pod: Pod, { placed }: Neighbourhood, candidates: readonly Candidate[], nodes: Nodes): Judge[] {
  const constraints = spreadConstraints(pod);
  const keys = constraints.map(({ topologyKey }) => topologyKey);
  return constraints.map(
    ({ topologyKey, labelSelector, matchLabelKeys, maxSkew, minDomains = 1, nodeAffinityPolicy }) => {
      const selector = narrowed(labelSelector, pod.metadata.labels ?? {}, { match: matchLabelKeys });
      const counts = new Map<string, number>();
      for (const { node } of candidates) {
        const isWhole = keys.every((key) => valueOf(node, key) !== undefined);
        const value = valueOf(node, topologyKey);
        if (value !== undefined && isWhole && (nodeAffinityPolicy === 'Ignore' || matchesNodeAffinity(pod, node)))
          counts.set(value, counts.get(value) ?? 0);
      }
      for (const other of placed) {
        const value = valueOf(nodes.get(other.nodeName), topologyKey);
        const count = value === undefined ? undefined : counts.get(value);
        const { namespace, deletionTimestamp, labels } = other.pod.metadata;
        if (value === undefined || count === undefined || deletionTimestamp) continue;
        if (namespace === pod.metadata.namespace && matchesSelector(selector, labels)) counts.set(value, count + 1);
      }
      const least = counts.size < minDomains ? 0 : Math.min(...counts.values());
      const itself = matchesSelector(selector, pod.metadata.labels) ? 1 : 0;
      return (node) => {
        const value = valueOf(node, topologyKey);
        if (value === undefined) return "node(s) didn't match pod topology spread constraints (missing required label)";
        return (counts.get(value) ?? 0) + itself - least > maxSkew
          ? "node(s) didn't match pod topology spread constraints"
          : undefined;
      };
    },
  );
}
