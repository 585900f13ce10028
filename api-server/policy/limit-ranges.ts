/**
 * LimitRanges: what containers get that say nothing of their resources, and how little and how much a container, a pod or a claim may ask for. Called by the strategies of pods and claims.
 * https://kubernetes.io/docs/concepts/policy/limit-range/
 */
import { amounts, podLimits, podRequests, type Amounts } from '../../api-schemas/pod-resources.ts';
import { formatQuantity, parseQuantity } from '../../api-schemas/quantity.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type {
  Container,
  LimitRange,
  LimitRangeItem,
  PersistentVolumeClaim,
  Pod,
} from '../../api-schemas/types/core-v1.ts';
import type { Call } from '../call.ts';
import { forbidden } from '../errors.ts';
import { decode } from '../store/entry.ts';

const ANNOTATION = 'kubernetes.io/limit-ranger';

type Quantities = Readonly<Record<string, string>>;

function rangesOf({ services, target }: Call): LimitRangeItem[] {
  const definition = services.registry.byResource('', 'v1', 'limitranges');
  if (!definition) return [];
  return services.store
    .cache(definition)
    .inNamespace(target.namespace)
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .flatMap((entry) => (decode(entry) as LimitRange & ApiObject).spec?.limits ?? []);
}

/** Gives the containers of a new pod what the ranges of its namespace set by default, and says so in an annotation. */
export function setLimitDefaults(pod: Pod & ApiObject, call: Call): void {
  const notes: string[] = [];
  for (const item of rangesOf(call).filter(({ type }) => type === 'Container')) {
    for (const container of pod.spec?.initContainers ?? []) notes.push(...complete(container, item, 'init container'));
    for (const container of pod.spec?.containers ?? []) notes.push(...complete(container, item, 'container'));
  }
  if (notes.length === 0) return;
  pod.metadata.annotations = {
    ...pod.metadata.annotations,
    [ANNOTATION]: `LimitRanger plugin set: ${notes.join('; ')}`,
  };
}

function complete(container: Container, item: LimitRangeItem, what: string): string[] {
  const resources: { requests?: Record<string, string>; limits?: Record<string, string> } = (container.resources ??=
    {});
  const note = (set: readonly string[], kind: string) =>
    set.length === 0 ? [] : [`${[...set].sort().join(', ')} ${kind} for ${what} ${container.name}`];
  const add = (field: 'requests' | 'limits', defaults: Quantities | undefined): string[] => {
    const missing = Object.entries(defaults ?? {}).filter(([name]) => resources[field]?.[name] === undefined);
    if (missing.length > 0) resources[field] = { ...resources[field], ...Object.fromEntries(missing) };
    return missing.map(([name]) => name);
  };
  return [...note(add('requests', item.defaultRequest), 'request'), ...note(add('limits', item.default), 'limit')];
}

/** Throws Forbidden with all that a new pod asks too much or too little of. */
export function checkPodLimits(pod: Pod & ApiObject, call: Call): void {
  const containers = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? [])];
  const faults = rangesOf(call).flatMap((item) => {
    if (item.type === 'Pod') return faultsOf(item, podRequests(pod.spec), podLimits(pod.spec));
    if (item.type !== 'Container') return [];
    return containers.flatMap(({ resources }) =>
      faultsOf(item, amounts(resources?.requests), amounts(resources?.limits)),
    );
  });
  refuse(pod, faults, call);
}

/** Throws Forbidden where a claim asks for too much or too little storage. */
export function checkClaimLimits(claim: PersistentVolumeClaim & ApiObject, call: Call): void {
  const requests = amounts(claim.spec?.resources?.requests);
  const faults = rangesOf(call).flatMap((item) =>
    item.type === 'PersistentVolumeClaim' ? claimFaults(item, requests) : [],
  );
  refuse(claim, faults, call);
}

function refuse({ metadata }: ApiObject, faults: readonly string[], call: Call): void {
  if (faults.length === 0) return;
  const why = faults.length === 1 ? (faults[0] ?? '') : `[${faults.join(', ')}]`;
  throw forbidden(call.definition, metadata.name || metadata.generateName || '', why);
}

const bounds = (quantities: Quantities | undefined): (readonly [name: string, text: string, bound: bigint])[] =>
  Object.entries(quantities ?? {}).map(([name, text]) => [name, text, parseQuantity(text)?.nanos ?? 0n] as const);

/** In the format of the bound that it is compared with. */
const shown = (nanos: bigint, like: string): string =>
  formatQuantity({ nanos, format: parseQuantity(like)?.format ?? 'decimal' });

function faultsOf(item: LimitRangeItem, requests: Amounts, limits: Amounts): string[] {
  return [
    ...bounds(item.min).flatMap(([name, text, bound]) => belowMinimum({ item, name, text, bound, requests, limits })),
    ...bounds(item.max).flatMap(([name, text, bound]) => aboveMaximum({ item, name, text, bound, requests, limits })),
    ...bounds(item.maxLimitRequestRatio).flatMap(([name, text, bound]) =>
      aboveRatio({ item, name, text, bound, requests, limits }),
    ),
  ];
}

interface Comparison {
  readonly item: LimitRangeItem;
  readonly name: string;
  readonly text: string;
  readonly bound: bigint;
  readonly requests: Amounts;
  readonly limits: Amounts;
}

function belowMinimum({ item, name, text, bound, requests, limits }: Comparison): string[] {
  const says = `minimum ${name} usage per ${item.type} is ${text}`;
  const request = requests[name];
  const limit = limits[name];
  if (request === undefined) return [`${says}.  No request is specified`];
  if (request < bound) return [`${says}, but request is ${shown(request, text)}`];
  return limit !== undefined && limit < bound ? [`${says}, but limit is ${shown(limit, text)}`] : [];
}

function aboveMaximum({ item, name, text, bound, requests, limits }: Comparison): string[] {
  const says = `maximum ${name} usage per ${item.type} is ${text}`;
  const request = requests[name];
  const limit = limits[name];
  if (limit === undefined) return [`${says}.  No limit is specified`];
  if (limit > bound) return [`${says}, but limit is ${shown(limit, text)}`];
  return request !== undefined && request > bound ? [`${says}, but request is ${shown(request, text)}`] : [];
}

function aboveRatio({ item, name, text, bound, requests, limits }: Comparison): string[] {
  const says = `${name} max limit to request ratio per ${item.type} is ${text}`;
  const request = requests[name] ?? 0n;
  const limit = limits[name] ?? 0n;
  if (request === 0n) return [`${says}, but no request is specified or request is 0`];
  if (limit === 0n) return [`${says}, but no limit is specified or limit is 0`];
  if (limit * 1_000_000_000n <= bound * request) return [];
  return [`${says}, but provided ratio is ${(Number(limit) / Number(request)).toFixed(6)}`];
}

function claimFaults(item: LimitRangeItem, requests: Amounts): string[] {
  const compare = (
    quantities: Quantities | undefined,
    word: string,
    isOut: (amount: bigint, bound: bigint) => boolean,
  ) =>
    bounds(quantities).flatMap(([name, text, bound]) => {
      const says = `${word} ${name} usage per ${item.type} is ${text}`;
      const request = requests[name];
      if (request === undefined) return [`${says}.  No request is specified`];
      return isOut(request, bound) ? [`${says}, but request is ${shown(request, text)}`] : [];
    });
  return [
    ...compare(item.min, 'minimum', (amount, bound) => amount < bound),
    ...compare(item.max, 'maximum', (amount, bound) => amount > bound),
  ];
}
