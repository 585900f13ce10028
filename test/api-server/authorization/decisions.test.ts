/** What rules allow and what they cover, as tables; no server is needed. */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import type { PolicyRule } from '../../../api-schemas/types/rbac-v1.ts';
import type { Attributes } from '../../../api-server/authorization/attributes.ts';
import { completed, defaultRoles } from '../../../api-server/authorization/default-roles.ts';
import { allows, missing } from '../../../api-server/authorization/rules.ts';
import type { ApiObject } from '../../../api-schemas/schema.ts';

/** `verb group/resource/subresource:name` or `verb /path`. */
function asked(text: string): Attributes {
  const [verb = '', rest = ''] = text.split(' ');
  if (rest.startsWith('/')) return { verb, path: rest };
  const [what = '', name = ''] = rest.split(':');
  const [group = '', resource = '', subresource = ''] = what.split('.');
  return { verb, group, resource, subresource, namespace: 'default', name };
}

const rule = (apiGroups: string[], resources: string[], verbs: string[], resourceNames?: string[]): PolicyRule => ({
  apiGroups,
  resources,
  verbs,
  ...(resourceNames && { resourceNames }),
});

const paths = (...nonResourceURLs: string[]): PolicyRule => ({ nonResourceURLs, verbs: ['get'] });

t.test('what a rule allows', (t) => {
  const table: [rule: PolicyRule, allowed: string[], denied: string[]][] = [
    [
      rule([''], ['pods'], ['get', 'list']),
      ['get .pods', 'list .pods', 'get .pods:x'],
      ['watch .pods', 'get .pods.log:x', 'get apps.pods', 'get .podsecurity', 'get /pods'],
    ],
    [rule(['*'], ['*'], ['*']), ['create apps.deployments.scale:x', 'impersonate .users:y'], ['get /healthz']],
    [rule([''], ['pods/log'], ['get']), ['get .pods.log:x'], ['get .pods:x', 'get .pods.exec:x']],
    [
      rule(['apps'], ['*/scale'], ['patch']),
      ['patch apps.deployments.scale:x', 'patch apps.statefulsets.scale:y'],
      ['patch apps.deployments:x', 'patch apps.deployments.status:x', 'patch .pods.scale:x'],
    ],
    [rule([''], ['pods/*'], ['get']), [], ['get .pods.log:x']],
    [
      rule([''], ['configmaps'], ['get', 'create', 'list'], ['a', 'b']),
      ['get .configmaps:a', 'get .configmaps:b', 'list .configmaps:a'],
      ['get .configmaps:c', 'create .configmaps', 'list .configmaps'],
    ],
    [
      paths('/healthz', '/apis/*'),
      ['get /healthz', 'get /apis/', 'get /apis/apps/v1'],
      ['get /apis', 'post /healthz', 'get /healthz/x'],
    ],
    [paths('*'), ['get /', 'get /metrics'], ['get .pods']],
  ];
  for (const [held, allowed, denied] of table) {
    for (const question of allowed)
      t.equal(allows(held, asked(question)), true, `${JSON.stringify(held)}: ${question}`);
    for (const question of denied)
      t.equal(allows(held, asked(question)), false, `${JSON.stringify(held)}: not ${question}`);
  }
  t.end();
});

t.test('what held rules cover', (t) => {
  const covered: [held: PolicyRule[], wanted: PolicyRule][] = [
    [[rule([''], ['pods', 'services'], ['get', 'list'])], rule([''], ['pods'], ['list'])],
    // Together, as no one rule of them does.
    [[rule([''], ['pods'], ['get']), rule([''], ['pods'], ['list'])], rule([''], ['pods'], ['get', 'list'])],
    [[rule(['*'], ['*'], ['*'])], rule(['apps', ''], ['pods/log', '*'], ['*'])],
    [[rule([''], ['pods'], ['get'])], rule([''], ['pods'], ['get'], ['x'])],
    [[rule([''], ['pods'], ['get'], ['x', 'y'])], rule([''], ['pods'], ['get'], ['y'])],
    [[rule(['apps'], ['*/scale'], ['get'])], rule(['apps'], ['deployments/scale'], ['get'])],
    [[paths('/apis/*')], paths('/apis/apps', '/apis/*')],
  ];
  for (const [held, wanted] of covered) t.strictSame(missing(held, [wanted]), [], JSON.stringify(wanted));
  const lacking: [held: PolicyRule[], wanted: PolicyRule, told: string][] = [
    [
      [rule([''], ['pods'], ['get'])],
      rule([''], ['pods'], ['get', 'list', 'watch']),
      '{APIGroups:[""], Resources:["pods"], Verbs:["list" "watch"]}',
    ],
    [
      [rule([''], ['pods'], ['get', 'list'])],
      rule([''], ['pods'], ['*']),
      '{APIGroups:[""], Resources:["pods"], Verbs:["*"]}',
    ],
    [
      [rule([''], ['pods'], ['get'], ['x'])],
      rule([''], ['pods'], ['get']),
      '{APIGroups:[""], Resources:["pods"], Verbs:["get"]}',
    ],
    [
      [rule([''], ['pods'], ['get'])],
      rule(['*'], ['pods'], ['get']),
      '{APIGroups:["*"], Resources:["pods"], Verbs:["get"]}',
    ],
    [[paths('/apis')], paths('/apis/*'), '{NonResourceURLs:["/apis/*"], Verbs:["get"]}'],
    [
      [rule([''], ['pods'], ['get'], ['x'])],
      rule([''], ['pods'], ['get'], ['y']),
      '{APIGroups:[""], Resources:["pods"], ResourceNames:["y"], Verbs:["get"]}',
    ],
  ];
  for (const [held, wanted, told] of lacking) t.strictSame(missing(held, [wanted]), [told]);
  t.end();
});

t.test('default roles', (t) => {
  const roles = defaultRoles();
  const named = (name: string) => roles.find(({ kind, metadata }) => kind === 'ClusterRole' && metadata.name === name);
  t.ok(named('cluster-admin') && named('admin') && named('edit') && named('view'));
  const ids = roles.map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`);
  t.equal(new Set(ids).size, ids.length, 'none stands there twice');
  const edit = named('edit')?.['rules'] as PolicyRule[];
  t.ok(edit.some((held) => allows(held, asked('create apps.deployments'))));
  t.notOk(edit.some((held) => allows(held, asked('create rbac.authorization.k8s.io.roles'))));
  for (const name of readdirSync(path.join(process.env['RECKON_ROOT'] ?? process.cwd(), 'controllers')))
    t.ok(named(name === 'pods' ? 'system:node' : `system:controller:${name}`), `${name} has a role: own-roles.ts`);
  // Least rights: none of ours may do everything.
  for (const { kind, metadata, ...role } of roles) {
    if (kind !== 'ClusterRole' || !/^system:(controller|node)/.test(metadata.name)) continue;
    const rules = role['rules'] as PolicyRule[];
    t.notOk(
      rules.some((held) => allows(held, asked('create rbac.authorization.k8s.io.clusterrolebindings'))),
      metadata.name,
    );
    t.notOk(
      rules.some((held) => allows(held, asked('bind rbac.authorization.k8s.io.clusterroles'))),
      metadata.name,
    );
  }
  t.end();
});

t.test('bringing a standing role in line', (t) => {
  const wanted: ApiObject = {
    apiVersion: 'rbac.authorization.k8s.io/v1',
    kind: 'ClusterRole',
    metadata: { name: 'x' },
    rules: [rule([''], ['pods'], ['get']), rule([''], ['services'], ['get'])],
  };
  const own = rule(['apps'], ['deployments'], ['get']);
  const standing = { ...wanted, rules: [rule([''], ['pods'], ['get', 'list']), own] };
  t.strictSame(completed(standing, wanted)?.['rules'], [...standing.rules, rule([''], ['services'], ['get'])]);
  t.equal(completed(wanted, wanted), undefined);
  const metadata = { name: 'x', annotations: { 'rbac.authorization.kubernetes.io/autoupdate': 'false' } };
  t.equal(completed({ ...standing, metadata }, wanted), undefined, 'left alone where the annotation says so');
  t.end();
});
