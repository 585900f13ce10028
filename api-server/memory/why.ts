/**
 * Why an object is there, is as it is, or is gone: from its first record back through the causes to the write that nobody else caused, and what happened to its containers. Works for what was deleted
 * days ago: the newest life of the name. Asked for under `/apis/log.reckon.dev/v1/…/why/…`; see `questions.ts`.
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { ObjectKey } from '../../event-log/event-log.ts';
import type { ContainerFacts, RuntimeEvent } from '../../state/runtime-facts.ts';
import { keyOf, type Call } from '../call.ts';
import { notFound } from '../errors.ts';
import { sendJson } from '../respond.ts';
import { translated, type OpenVersion, type Past } from '../store/past.ts';
import type { Fields } from './field-changes.ts';
import { fieldsOf, MEMORY_API_VERSION, objectOf, pastOf, summaryOf, type VersionSummary } from './history.ts';
import { mayRead } from './may-read.ts';

/** One record on the way from an effect to its first cause. */
export type Step =
  | (VersionSummary & { readonly object: StepObject; readonly also: readonly Step[] })
  /** The caller may not read that object, or the record is no longer known. */
  | { readonly revision: number; readonly withheld: true }
  | { readonly revision: number; readonly unknown: true };

export interface StepObject {
  readonly group: string;
  readonly resource: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
}

/** Longer chains than this are cut; a cause always has a smaller sequence, so none is a circle. */
const MAX_STEPS = 32;
/** How many versions are searched for the one that asked for the deletion. */
const MAX_SEARCHED = 200;

export async function why(call: Call): Promise<void> {
  const past = pastOf(call);
  const { definition, services, target } = call;
  const key = keyOf(call);
  await services.store.current(definition);
  await past.momentAt(services.store.stream(definition).position);
  const life = await past.newestLife(key);
  if (!life) throw notFound(definition, target.name);
  const walk = new Walk(call, past, fieldsOf(call));
  const deletion = await deletionOf(past, key, life.last);
  const isPod = definition.group === '' && definition.resource === 'pods';
  sendJson(call, 200, {
    kind: 'Why',
    apiVersion: MEMORY_API_VERSION,
    object: { ...objectOf(call), uid: life.last.uid },
    alive: life.last.verb !== 'delete',
    /** From the object back to the first cause. */
    chain: await walk.from(life.first),
    ...(deletion && { end: await walk.from(deletion) }),
    state: stateOf(life.last.object),
    ...(isPod && (await containersOf(call, life.last.uid))),
  });
}

class Walk {
  readonly #call: Call;
  readonly #past: Past;
  readonly #fields: Fields;

  constructor(call: Call, past: Past, fields: Fields) {
    this.#call = call;
    this.#past = past;
    this.#fields = fields;
  }

  /** One of the causes that a record names is what it answers to; the others, what made it answer just then, stand beside it. */
  async from(record: OpenVersion): Promise<readonly Step[]> {
    const steps: Step[] = [];
    let next: OpenVersion | undefined = record;
    while (next && steps.length < MAX_STEPS) {
      const causes: readonly number[] = next.causes.filter((each) => each < next!.sequence);
      const cause: number | undefined = await this.#decisive(next, causes);
      const others = causes.filter((each) => each !== cause);
      const also = await Promise.all(others.map((sequence) => this.#beside(sequence)));
      steps.push(await this.#step(next, also));
      if (cause === undefined) break;
      next = await this.#readable(cause, steps);
    }
    return steps;
  }

  /** The first cause, which is what is wanted; but what ends for another's end, such as an owner's, answers to that. */
  async #decisive(record: OpenVersion, causes: readonly number[]): Promise<number | undefined> {
    const [first, ...others] = causes;
    if (answersToSilence(record)) return undefined;
    if (first === undefined || others.length === 0 || !isEnding(record)) return first;
    const own = (key: ObjectKey): boolean =>
      key.name === record.key.name && key.resource === record.key.resource && key.group === record.key.group;
    const wanted = await this.#past.recordAt(first);
    if (!wanted || !own(wanted.key) || isEnding(wanted)) return first;
    for (const other of others) {
      const cause = await this.#past.recordAt(other);
      if (cause && !own(cause.key) && isEnding(cause)) return other;
    }
    return first;
  }

  /** Undefined, with the step that says so, where the chain cannot be told further. */
  async #readable(sequence: number, steps: Step[]): Promise<OpenVersion | undefined> {
    const record = await this.#past.recordAt(sequence);
    if (!record) steps.push({ revision: sequence, unknown: true });
    else if (!mayRead(this.#call, record.key)) steps.push({ revision: sequence, withheld: true });
    else return record;
    return undefined;
  }

  async #beside(sequence: number): Promise<Step> {
    const cut: Step[] = [];
    const record = await this.#readable(sequence, cut);
    return record ? this.#step(record, []) : cut[0]!;
  }

  async #step(record: OpenVersion, also: readonly Step[]): Promise<Step> {
    const { group, resource, namespace, name } = record.key;
    const object = { group, resource, kind: record.object.kind, namespace, name };
    const [previous] = await this.#past.versions(record.key, { before: record.sequence, limit: 1 });
    return { object, ...summaryOf(record, previous, this.#fields), also };
  }
}

/** What is said of a node that is not heard of answers to no record, whatever was wanted of the node before. */
const answersToSilence = ({ key, actor }: OpenVersion): boolean =>
  key.group === '' && key.resource === 'nodes' && actor === 'system:controller:nodes';

const isEnding = ({ verb, object }: OpenVersion): boolean =>
  verb === 'delete' || object.metadata.deletionTimestamp !== undefined;

/** The record by which the object's end was asked for: the first with a deletion time, else the tombstone. */
async function deletionOf(past: Past, key: ObjectKey, last: OpenVersion): Promise<OpenVersion | undefined> {
  if (last.verb !== 'delete' && !last.object.metadata.deletionTimestamp) return undefined;
  const { uid } = last;
  let asked = last;
  for (const version of await past.versions(key, { before: last.sequence, limit: MAX_SEARCHED })) {
    if (version.uid !== uid || !version.object.metadata.deletionTimestamp) break;
    asked = version;
  }
  return asked;
}

interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
}

interface LastStatus {
  readonly phase?: string;
  readonly reason?: string;
  readonly message?: string;
  readonly conditions?: readonly Condition[];
  readonly containerStatuses?: readonly ContainerState[];
  readonly initContainerStatuses?: readonly ContainerState[];
}

interface ContainerState {
  readonly name: string;
  readonly ready?: boolean;
  readonly started?: boolean;
  readonly state?: {
    readonly waiting?: { readonly reason?: string; readonly message?: string };
    readonly running?: object;
  };
}

/** Conditions that complain when they hold; the others complain when they do not. */
const BAD_WHEN_TRUE: ReadonlySet<string> = new Set([
  ...['ReplicaFailure', 'DisruptionTarget', 'Failed', 'FailureTarget'],
  ...['DiskPressure', 'MemoryPressure', 'PIDPressure', 'NetworkUnavailable'],
]);

/** What the object's last status complains of. */
function stateOf(object: ApiObject): Record<string, unknown> {
  const status = (object['status'] ?? {}) as LastStatus;
  const waiting = [...(status.initContainerStatuses ?? []), ...(status.containerStatuses ?? [])].flatMap(
    (container) => {
      const complaint = container.state?.waiting ?? unprobed(object, container);
      return complaint ? [{ container: container.name, ...complaint }] : [];
    },
  );
  const conditions = (status.conditions ?? [])
    .filter(
      ({ type, status: holds, message, reason }) =>
        BAD_WHEN_TRUE.has(type) === (holds === 'True') && (message || reason),
    )
    .map(({ type, status: holds, reason, message }) => ({ type, status: holds, reason, message }));
  const { phase, reason, message } = status;
  return {
    phase,
    reason,
    message,
    ...(conditions.length > 0 && { conditions }),
    ...(waiting.length > 0 && { waiting }),
  };
}

/** What a container that runs has still to show. */
function unprobed(object: ApiObject, { name, ready, started, state }: ContainerState) {
  if (!state?.running) return undefined;
  const { containers = [] } = (object['spec'] ?? {}) as { containers?: { name: string; [probe: string]: unknown }[] };
  const spec = containers.find((each) => each.name === name);
  if (spec?.['startupProbe'] && started === false)
    return { reason: 'NotStarted', message: 'its startup probe has not succeeded' };
  if (spec?.['readinessProbe'] && ready === false)
    return { reason: 'NotReady', message: 'its readiness probe does not succeed' };
  return undefined;
}

async function containersOf(
  { services }: Call,
  podUid: string,
): Promise<{ containers: readonly ContainerFacts[]; happened: readonly RuntimeEvent[] } | undefined> {
  const { runtime } = services;
  if (!runtime) return undefined;
  const [containers, happened] = await translated(0, () =>
    Promise.all([runtime.containersOfPod(podUid), runtime.events({ podUid })]),
  );
  return { containers, happened };
}
