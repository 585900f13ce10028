/**
 * What of an object comes back when it is restored, and what does not: bookkeeping, what controllers fill in, references to things that have a new identity by then. Pure. Used by `plan.ts` to compare, and for the objects
 * that a restore writes.
 */
import { isDeepStrictEqual } from 'node:util';
import type { ApiObject } from '../../api-schemas/schema.ts';

type Fields = Record<string, unknown>;

/** Annotations that controllers keep books in, and rewrite by themselves. */
const BOOKS = [
  'deployment.kubernetes.io/',
  'pv.kubernetes.io/',
  'volume.kubernetes.io/',
  'volume.beta.kubernetes.io/',
  'kubernetes.io/limit-ranger',
];
/** Labels that a Job is given anew. */
const JOB_LABELS = ['controller-uid', 'batch.kubernetes.io/controller-uid', 'job-name', 'batch.kubernetes.io/job-name'];

const isBook = (name: string): boolean => BOOKS.some((book) => name.startsWith(book));

/** Whoever made it makes it again, or takes it away: the processes of the control plane. */
export const isMadeByMachine = (maker: string): boolean => /^system:(controller:|node:|apiserver$)/.test(maker);

export const hasController = ({ metadata }: ApiObject): boolean =>
  (metadata.ownerReferences ?? []).some(({ controller }) => controller === true);

/** Whether two versions of one object ask for the same. */
export const asksForTheSame = (one: ApiObject, other: ApiObject): boolean =>
  isDeepStrictEqual(wanted(one), wanted(other));

/** What a person has asked for, alone. */
export function wanted(object: ApiObject): Fields {
  const { status: _, metadata, ...rest } = structuredClone(object) as ApiObject & { status?: unknown };
  const { name, namespace, labels, annotations } = metadata;
  const kept = Object.fromEntries(Object.entries(annotations ?? {}).filter(([key]) => !isBook(key)));
  const content: Fields = { ...rest, metadata: { name, namespace, labels: labels ?? {}, annotations: kept } };
  const spec = content['spec'] as Fields | undefined;
  for (const field of FILLED_IN[object.kind] ?? []) delete spec?.[field];
  if (object.kind === 'ServiceAccount') delete content['secrets'];
  return content;
}

/** Fields of the spec that others than its author fill in. */
const FILLED_IN: Readonly<Record<string, readonly string[]>> = {
  Namespace: ['finalizers'],
  PersistentVolumeClaim: ['volumeName'],
  Pod: ['nodeName', 'tolerations', 'priority'],
  Service: ['clusterIP', 'clusterIPs', 'healthCheckNodePort'],
};

/** As it is to be written where nothing of that name stands. */
export function forCreation(past: ApiObject): ApiObject {
  const object = withoutIdentity(past);
  const { metadata } = object;
  const finalizers = (metadata.finalizers ?? []).filter((each) => !['foregroundDeletion', 'orphan'].includes(each));
  if (finalizers.length > 0) metadata.finalizers = finalizers;
  else delete metadata.finalizers;
  for (const name of Object.keys(metadata.annotations ?? {})) if (isBook(name)) delete metadata.annotations?.[name];
  const spec = object['spec'] as Fields | undefined;
  if (object.kind === 'PersistentVolumeClaim') delete spec?.['volumeName'];
  if (object.kind === 'Pod') delete spec?.['nodeName'];
  if (object.kind === 'Job' && spec?.['manualSelector'] !== true) forgetJobIdentity(object, spec);
  return object;
}

/** As it is to be written over what stands: what others have filled in there stays. */
export function forUpdate(past: ApiObject, present: ApiObject): ApiObject {
  const object = withoutIdentity(past);
  const { metadata } = object;
  metadata.resourceVersion = present.metadata.resourceVersion ?? '';
  for (const field of ['finalizers', 'ownerReferences'] as const) {
    if (present.metadata[field] === undefined) delete metadata[field];
    else Object.assign(metadata, { [field]: structuredClone(present.metadata[field]) });
  }
  const books = (all: ApiObject) =>
    Object.entries(all.metadata.annotations ?? {}).filter(([name]) => isBook(name) === (all === present));
  const annotations = Object.fromEntries([...books(past), ...books(present)]);
  if (Object.keys(annotations).length > 0) metadata.annotations = annotations;
  else delete metadata.annotations;
  const [spec, standing] = [object['spec'], present['spec']] as (Fields | undefined)[];
  for (const field of FILLED_IN[object.kind] ?? []) {
    if (!spec) continue;
    if (standing?.[field] === undefined) delete spec[field];
    else spec[field] = structuredClone(standing[field]);
  }
  return object;
}

function withoutIdentity(past: ApiObject): ApiObject {
  const object = structuredClone(past);
  const { metadata } = object;
  delete object['status'];
  for (const field of [
    'uid',
    'resourceVersion',
    'creationTimestamp',
    'generation',
    'managedFields',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
    'selfLink',
  ])
    delete (metadata as unknown as Fields)[field];
  return object;
}

/** Who owned which field then, and of the status who owns it now. */
export function ownershipOf(past: ApiObject, present?: ApiObject): readonly unknown[] {
  const ofStatus = ({ subresource }: { subresource?: string }): boolean => subresource === 'status';
  const entries = (object?: ApiObject) => (object?.metadata.managedFields ?? []) as { subresource?: string }[];
  return [...entries(past).filter((entry) => !ofStatus(entry)), ...entries(present).filter(ofStatus)];
}

function forgetJobIdentity(object: ApiObject, spec: Fields | undefined): void {
  if (!spec) return;
  delete spec['selector'];
  const template = spec['template'] as { metadata?: { labels?: Record<string, string> } } | undefined;
  for (const labels of [object.metadata.labels, template?.metadata?.labels])
    for (const name of JOB_LABELS) delete labels?.[name];
}

/** Why an object that stood then is not made again; undefined where it is. */
export function whyNotAgain(past: ApiObject): string | undefined {
  const status = past['status'] as { phase?: string; conditions?: { type: string; status: string }[] } | undefined;
  if (past.kind === 'Pod' && (status?.phase === 'Succeeded' || status?.phase === 'Failed'))
    return 'it had ended by then; making it again would run it again';
  const ended = (status?.conditions ?? []).some(
    ({ type, status: holds }) => (type === 'Complete' || type === 'Failed') && holds === 'True',
  );
  if (past.kind === 'Job' && ended) return 'it had ended by then; making it again would run it again';
  return undefined;
}

/** What is lost although the object comes back. */
export function lossesOf(past: ApiObject): string[] {
  const spec = past['spec'] as { volumeName?: string; volumes?: { emptyDir?: unknown }[] } | undefined;
  if (past.kind === 'PersistentVolumeClaim' && spec?.volumeName)
    return [`it gets a new volume: the contents of ${spec.volumeName} are not brought back`];
  if (past.kind === 'Pod') return ['it starts anew, on a node that the scheduler chooses'];
  return [];
}
