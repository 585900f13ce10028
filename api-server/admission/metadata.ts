/**
 * What `metadata` must look like, whatever the kind: name, namespace, labels, annotations, owners, finalizers, and what of it an update may not change.
 * Called by `validate.ts`. Follows apimachinery's `api/validation/objectmeta.go`.
 */
import type { ApiObject, ObjectMetadata, ResourceDefinition } from '../../api-schemas/schema.ts';
import { duplicate, forbidden, invalid, required, tooLong, type Fault } from './fault.ts';
import { dns1123Label, labelValue, nameCheck, qualifiedName } from './names.ts';

/** All keys and values of an object's annotations together. */
export const MAX_ANNOTATIONS_BYTES = 256 * 1024;
const NO_OWNERS = new Set(['v1/Event']);

export function validateMetadata(
  object: ApiObject,
  old: ApiObject | undefined,
  definition: ResourceDefinition,
): Fault[] {
  const metadata = (object.metadata ?? {}) as Partial<ObjectMetadata>;
  const faults = [
    ...nameFaults(metadata, definition),
    ...namespaceFaults(metadata, definition),
    ...labelsFaults(metadata.labels, 'metadata.labels'),
    ...annotationsFaults(metadata.annotations, 'metadata.annotations'),
    ...ownerFaults(metadata),
    ...finalizerFaults(metadata.finalizers, definition),
  ];
  if (metadata.generation !== undefined && metadata.generation < 0)
    faults.push(invalid('metadata.generation', metadata.generation, 'must be greater than or equal to 0'));
  return old ? [...faults, ...changeFaults(metadata, old)] : faults;
}

/** Labels and annotations of a pod template and the like. */
export function labelAndAnnotationFaults(metadata: Partial<ObjectMetadata> | undefined, path: string): Fault[] {
  return [
    ...labelsFaults(metadata?.labels, `${path}.labels`),
    ...annotationsFaults(metadata?.annotations, `${path}.annotations`),
  ];
}

function nameFaults(metadata: Partial<ObjectMetadata>, definition: ResourceDefinition): Fault[] {
  const { name, generateName } = metadata;
  const check = nameCheck(definition.nameFormat);
  if (!name) {
    if (!generateName) return [required('metadata.name', 'name or generateName is required')];
    // A prefix may end in a hyphen: what the server appends ends it well.
    return check(`${generateName.replace(/-$/, '')}x`).map((says) =>
      invalid('metadata.generateName', generateName, says),
    );
  }
  return check(name).map((says) => invalid('metadata.name', name, says));
}

function namespaceFaults(metadata: Partial<ObjectMetadata>, definition: ResourceDefinition): Fault[] {
  const { namespace } = metadata;
  if (!definition.namespaced) return namespace ? [forbidden('metadata.namespace', 'not allowed on this type')] : [];
  if (!namespace) return [required('metadata.namespace')];
  return dns1123Label(namespace).map((says) => invalid('metadata.namespace', namespace, says));
}

export function labelsFaults(labels: Readonly<Record<string, string>> | undefined, path: string): Fault[] {
  return Object.entries(labels ?? {}).flatMap(([key, value]) => [
    ...qualifiedName(key).map((says) => invalid(path, key, says)),
    ...labelValue(value).map((says) => invalid(path, value, says)),
  ]);
}

function annotationsFaults(annotations: Readonly<Record<string, string>> | undefined, path: string): Fault[] {
  const entries = Object.entries(annotations ?? {});
  const faults = entries.flatMap(([key]) => qualifiedName(key.toLowerCase()).map((says) => invalid(path, key, says)));
  const bytes = entries.reduce((sum, [key, value]) => sum + Buffer.byteLength(key) + Buffer.byteLength(value), 0);
  return bytes > MAX_ANNOTATIONS_BYTES ? [...faults, tooLong(path, MAX_ANNOTATIONS_BYTES)] : faults;
}

function ownerFaults(metadata: Partial<ObjectMetadata>): Fault[] {
  const faults: Fault[] = [];
  const path = 'metadata.ownerReferences';
  let controller: string | undefined;
  for (const [index, owner] of (metadata.ownerReferences ?? []).entries()) {
    const at = `${path}[${index}]`;
    if (!owner.apiVersion)
      faults.push(invalid(`${at}.apiVersion`, owner.apiVersion ?? '', 'version must not be empty'));
    if (!owner.kind) faults.push(invalid(`${at}.kind`, owner.kind ?? '', 'must not be empty'));
    if (!owner.name) faults.push(invalid(`${at}.name`, owner.name ?? '', 'must not be empty'));
    if (!owner.uid) faults.push(invalid(`${at}.uid`, owner.uid ?? '', 'must not be empty'));
    if (NO_OWNERS.has(`${owner.apiVersion}/${owner.kind}`))
      faults.push(invalid(at, owner, 'is disallowed from being an owner'));
    if (owner.controller !== true) continue;
    if (controller === undefined) controller = `${owner.kind}/${owner.name}`;
    else {
      const says = `Only one reference can have Controller set to true. Found "true" in references for ${controller} and ${owner.kind}/${owner.name}`;
      faults.push(invalid(path, metadata.ownerReferences, says));
    }
  }
  return faults;
}

/** Finalizers without a domain that Kubernetes itself defines. */
const STANDARD_FINALIZERS = new Set(['kubernetes', 'orphan', 'foregroundDeletion']);

/** `standard`: a name without a domain must be one of Kubernetes' own. Also for the finalizers of a Namespace's spec. */
export function finalizerNameFaults(
  finalizers: readonly string[],
  path: string,
  { standard }: { standard: boolean },
): Fault[] {
  return finalizers.flatMap((finalizer, index) => {
    const at = `${path}[${index}]`;
    const complaints = qualifiedName(finalizer);
    if (complaints.length > 0) return complaints.map((says) => invalid(at, finalizer, says));
    if (!standard || finalizer.includes('/') || STANDARD_FINALIZERS.has(finalizer)) return [];
    return [invalid(at, finalizer, 'name is neither a standard finalizer name nor is it fully qualified')];
  });
}

function finalizerFaults(
  finalizers: readonly string[] | undefined,
  { group, custom }: Pick<ResourceDefinition, 'group' | 'custom'>,
): Fault[] {
  // Of kinds that are not Kubernetes' own any name will do that could be a label's.
  const anyName = custom !== undefined || group === 'apiextensions.k8s.io';
  const faults = finalizerNameFaults(finalizers ?? [], 'metadata.finalizers', { standard: !anyName });
  const known = new Set(finalizers);
  if (known.has('orphan') && known.has('foregroundDeletion')) {
    faults.push(
      invalid('metadata.finalizers', finalizers, 'finalizer orphan and foregroundDeletion cannot be both set'),
    );
  }
  return faults;
}

function changeFaults(metadata: Partial<ObjectMetadata>, old: ApiObject): Fault[] {
  const faults: Fault[] = [];
  for (const field of [
    'name',
    'namespace',
    'uid',
    'creationTimestamp',
    'deletionTimestamp',
    'deletionGracePeriodSeconds',
  ] as const) {
    const before = old.metadata[field];
    const after = metadata[field];
    // What an update leaves out, the verb fills in from the stored object.
    if (after !== undefined && after !== before) faults.push(invalid(`metadata.${field}`, after, 'field is immutable'));
  }
  if (old.metadata.deletionTimestamp !== undefined) {
    const added = (metadata.finalizers ?? []).filter((each) => !(old.metadata.finalizers ?? []).includes(each));
    if (added.length > 0) {
      faults.push(
        forbidden(
          'metadata.finalizers',
          `no new finalizers can be added if the object is being deleted, found new finalizers ${JSON.stringify(added)}`,
        ),
      );
    }
  }
  return faults;
}

/** Every item once. Used for lists of names. */
export function duplicatesOf(names: readonly (string | undefined)[], at: (index: number) => string): Fault[] {
  const seen = new Set<string>();
  const faults: Fault[] = [];
  for (const [index, name] of names.entries()) {
    if (name === undefined || name === '') continue;
    if (seen.has(name)) faults.push(duplicate(at(index), name));
    seen.add(name);
  }
  return faults;
}
