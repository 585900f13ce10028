/** A CustomResourceDefinition keeps the list of versions that its objects may be stored in, and does not end before its objects have. What it demands of its schema is checked in `../custom-resources/`. */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { CustomResourceDefinition } from '../../api-schemas/types/apiextensions-v1.ts';
import type { Call } from '../call.ts';
import { invalid } from '../errors.ts';
import type { Kind } from './kinds.ts';
import { timestamp } from '../verbs/write.ts';

export const CLEANUP_FINALIZER = 'customresourcecleanup.apiextensions.k8s.io';
/** Groups of the server's own, which are nobody's to add to. */
const OWN_GROUPS = new Set(['reckon.dev', 'log.reckon.dev']);

const asDefinition = (object: ApiObject): CustomResourceDefinition => object as unknown as CustomResourceDefinition;

/** Every version that was the storage version once stays listed until somebody has rewritten the objects and says so in the status. */
function withStorageVersion(definition: CustomResourceDefinition, before: readonly string[]): string[] {
  const storage = definition.spec.versions.find((version) => version.storage)?.name;
  return [...new Set([...before, ...(storage === undefined ? [] : [storage])])];
}

/** What is built in cannot be added a second time. Unsound definitions are refused by validation. */
function refuseBuiltIn(definition: CustomResourceDefinition, { services, definition: crds }: Call): void {
  const { group, names, versions } = definition.spec ?? {};
  if (!Array.isArray(versions) || !names) return;
  const builtIn = versions
    .flatMap(({ name }) => [
      services.registry.byResource(group, name, names.plural),
      services.registry.byKind(group, name, names.kind),
    ])
    .some((known) => known !== undefined && known.custom === undefined);
  if (!builtIn && !OWN_GROUPS.has(group)) return;
  throw invalid(crds, definition.metadata.name, [
    {
      reason: 'FieldValueForbidden',
      field: OWN_GROUPS.has(group) ? 'spec.group' : 'spec.names',
      message: `Forbidden: ${names.plural}.${group} is served by the API server itself`,
    },
  ]);
}

export const customResourceDefinitions: Kind = {
  prepareCreate(object, call) {
    const definition = asDefinition(object);
    refuseBuiltIn(definition, call);
    if (Array.isArray(definition.spec?.versions))
      definition.status = { storedVersions: withStorageVersion(definition, []) };
  },
  prepareUpdate(object, old, call) {
    if (call.target.subresource !== '') return;
    const definition = asDefinition(object);
    if (!Array.isArray(definition.spec?.versions)) return;
    const storedVersions = withStorageVersion(definition, asDefinition(old).status?.storedVersions ?? []);
    definition.status = { ...definition.status, storedVersions };
  },
  prepareDelete(object) {
    const definition = asDefinition(object);
    const conditions = definition.status?.conditions ?? [];
    if (conditions.some(({ type }) => type === 'Terminating')) return;
    object.metadata.finalizers = [...new Set([...(object.metadata.finalizers ?? []), CLEANUP_FINALIZER])];
    definition.status = {
      ...definition.status,
      conditions: [
        ...conditions,
        {
          type: 'Terminating',
          status: 'True',
          reason: 'InstanceDeletionPending',
          message: 'CustomResourceDefinition marked for deletion; CustomResource deletion will be initiated soon',
          lastTransitionTime: timestamp(),
        },
      ],
    };
  },
};
