/** What an aggregated ClusterRole comes to hold. */
import t from 'tap';
import { reconcile, type ClusterRoleObject } from '../../../controllers/clusterroles/reconcile.ts';

const role = (name: string, rules: object[], more: object = {}): ClusterRoleObject =>
  ({
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRole',
    metadata: { name, uid: `uid-${name}`, resourceVersion: '7' },
    rules,
    ...more,
  }) as ClusterRoleObject;

const pods = { apiGroups: [''], resources: ['pods'], verbs: ['get'] };
const nodes = { apiGroups: [''], resources: ['nodes'], verbs: ['get'] };
const aggregationRule = { clusterRoleSelectors: [{ matchLabels: { a: 'b' } }] };

t.test('an aggregated role', (t) => {
  const all = role('all', [], { aggregationRule });
  const plan = reconcile(all, { sources: [role('one', [pods, nodes]), role('two', [pods])] });
  t.match(plan.actions, [
    { verb: 'patch', name: 'all', patch: { metadata: { uid: 'uid-all', resourceVersion: '7' }, rules: [pods, nodes] } },
  ]);
  const full = role('all', [pods, nodes], { aggregationRule });
  t.strictSame(reconcile(full, { sources: [role('one', [pods, nodes])] }).actions, [], 'converges');
  t.match(reconcile(full, { sources: [role('one', [nodes])] }).actions, [{ patch: { rules: [nodes] } }], 'and lets go');
  t.match(reconcile(full, { sources: [] }).actions, [{ patch: { rules: [] } }]);
  t.strictSame(
    reconcile(role('plain', [pods]), { sources: [role('one', [nodes])] }).actions,
    [],
    'a plain role is nobody else’s',
  );
  t.end();
});
