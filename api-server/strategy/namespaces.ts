/** A namespace names itself in a label, and stays until its own finalizers are gone, which is how its contents are removed first. */
import type { Namespace } from '../../api-schemas/types/core-v1.ts';
import { forbidden } from '../errors.ts';
import type { Kind } from './kinds.ts';

export const NAMESPACE_FINALIZER = 'kubernetes';
/** As in Kubernetes' NamespaceLifecycle admission. */
const IMMORTAL: ReadonlySet<string> = new Set(['default', 'kube-system', 'kube-public']);
const NAME_LABEL = 'kubernetes.io/metadata.name';

export const namespaces: Kind = {
  prepareCreate(object) {
    const namespace = object as Namespace & typeof object;
    const { metadata } = object;
    if (metadata.name) metadata.labels = { ...metadata.labels, [NAME_LABEL]: metadata.name };
    namespace.spec = {
      ...namespace.spec,
      finalizers: [...new Set([...(namespace.spec?.finalizers ?? []), NAMESPACE_FINALIZER])],
    };
    namespace.status = { phase: 'Active' };
  },
  prepareUpdate(object, old, call) {
    object.metadata.labels = { ...object.metadata.labels, [NAME_LABEL]: object.metadata.name };
    if (call.target.subresource !== 'finalize') object['spec'] = old['spec'];
  },
  refuseDelete({ metadata }, call) {
    if (IMMORTAL.has(metadata.name))
      throw forbidden(call.definition, metadata.name, 'this namespace may not be deleted');
  },
  prepareDelete(object) {
    object['status'] = { ...(object['status'] as object | undefined), phase: 'Terminating' };
  },
  finalizers: (object) => (object as Namespace & typeof object).spec?.finalizers ?? [],
};
