/**
 * Rules for Roles and their bindings that depend on which of the two kinds of each it is: within a namespace there are no paths, and a service account without a namespace is the binding's neighbour. Keyed to them by
 * `catalogue.ts`. Follows `pkg/apis/rbac/validation`.
 */
import { invalid, notSupported, required, type Fault } from '../fault.ts';
import { dns1123Subdomain } from '../names.ts';
import { below, objectAt, objectsAt, textAt, type JsonObject, type Rule } from './rule.ts';

const GROUP = 'rbac.authorization.k8s.io';

const pathFaults =
  (namespaced: boolean): Rule =>
  ({ value, report }) => {
    for (const [index, rule] of objectsAt(value['rules']).entries()) {
      const paths = rule['nonResourceURLs'];
      if (!holds(paths)) continue;
      const at = below(below('', 'rules', index), 'nonResourceURLs');
      if (namespaced) report(invalid(at, paths, 'namespaced rules cannot apply to non-resource URLs'));
      if (['apiGroups', 'resources', 'resourceNames'].some((field) => holds(rule[field])))
        report(invalid(at, paths, 'rules cannot apply to both regular resources and non-resource URLs'));
    }
  };

const holds = (list: unknown): boolean => Array.isArray(list) && list.length > 0;

export const role = pathFaults(true);
export const clusterRole = pathFaults(false);

const bindingFaults =
  ({ kinds, namespaced }: { kinds: readonly string[]; namespaced: boolean }): Rule =>
  ({ value, report }) => {
    const kind = textAt(objectAt(value['roleRef'])['kind']);
    if (!kinds.includes(kind)) report(notSupported('roleRef.kind', kind, kinds));
    for (const [index, subject] of objectsAt(value['subjects']).entries())
      report(...subjectFaults(subject, below('', 'subjects', index), namespaced));
  };

export const roleBinding = bindingFaults({ kinds: ['Role', 'ClusterRole'], namespaced: true });
export const clusterRoleBinding = bindingFaults({ kinds: ['ClusterRole'], namespaced: false });

function subjectFaults(subject: JsonObject, path: string, namespaced: boolean): Fault[] {
  const [kind, name, group] = [subject['kind'], textAt(subject['name']), textAt(subject['apiGroup'])];
  const supported = kind === 'ServiceAccount' ? '' : GROUP;
  const faults = group === supported ? [] : [notSupported(below(path, 'apiGroup'), group, [supported])];
  if (kind !== 'ServiceAccount') return kind === 'User' || kind === 'Group' ? faults : [];
  if (name !== '') faults.push(...dns1123Subdomain(name).map((says) => invalid(below(path, 'name'), name, says)));
  if (!namespaced && textAt(subject['namespace']) === '') faults.push(required(below(path, 'namespace')));
  return faults;
}
