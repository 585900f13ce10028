/**
 * The roles of Reckon's own processes, each with the least that it needs: what its controller writes, its Lease, and the Events it tells. (They read the log, not the API.) Made by
 * `default-roles.ts`; a controller that begins to write something else gets its rule here.
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { PolicyRule } from '../../api-schemas/types/rbac-v1.ts';
import { NODES } from '../authentication/identity.ts';
import { RBAC_GROUP } from './rbac.ts';

const LEASE_NAMESPACE = 'kube-system';

const rule = (apiGroup: string, resources: readonly string[], verbs: readonly string[]): PolicyRule => ({
  apiGroups: [apiGroup],
  resources: [...resources],
  verbs: [...verbs],
});

const CHANGE = ['get', 'patch', 'update'];
const EVENTS = rule('', ['events'], ['create', 'get', 'patch']);

interface Process {
  readonly rules: readonly PolicyRule[];
  /** By which one replica leads; default the process's own name. */
  readonly leases?: readonly string[];
}

/** By the name of the controller's folder: the user is `system:controller:<name>`. */
const CONTROLLERS: Readonly<Record<string, Process>> = {
  certificatesigningrequests: {
    rules: [
      rule('certificates.k8s.io', ['certificatesigningrequests'], ['delete', 'get']),
      rule('certificates.k8s.io', ['certificatesigningrequests/status'], CHANGE),
      {
        ...rule('certificates.k8s.io', ['signers'], ['sign']),
        resourceNames: ['', '-kubelet']
          .map((kind) => `kubernetes.io/kube-apiserver-client${kind}`)
          .concat('kubernetes.io/kubelet-serving'),
      },
    ],
  },
  clusterroles: {
    // It gives roles what other roles hold, which is more than it holds itself.
    rules: [rule(RBAC_GROUP, ['clusterroles'], [...CHANGE, 'escalate'])],
  },
  customresourcedefinitions: {
    rules: [
      rule('apiextensions.k8s.io', ['customresourcedefinitions', 'customresourcedefinitions/status'], CHANGE),
      // The objects of a kind that ends.
      rule('*', ['*'], ['delete', 'get']),
    ],
  },
  deployments: {
    rules: [
      rule('apps', ['deployments', 'deployments/status'], CHANGE),
      rule('apps', ['replicasets'], ['create', 'delete', ...CHANGE]),
    ],
  },
  endpointslices: {
    leases: ['endpointslices', 'endpointslicemirroring'],
    rules: [
      rule('discovery.k8s.io', ['endpointslices'], ['create', 'delete', ...CHANGE]),
      rule('', ['endpoints'], ['create', 'delete', ...CHANGE]),
    ],
  },
  // Whatever has an owner, of whatever kind.
  garbagecollector: { rules: [rule('*', ['*'], ['delete', 'get', 'patch'])] },
  namespaces: {
    rules: [
      rule('*', ['*'], ['delete', 'get', 'list']),
      rule('', ['namespaces', 'namespaces/finalize', 'namespaces/status'], CHANGE),
    ],
  },
  nodes: {
    rules: [
      rule('', ['nodes', 'nodes/status'], CHANGE),
      rule('', ['pods'], ['delete', 'get']),
      rule('', ['pods/status'], CHANGE),
    ],
  },
  poddisruptionbudgets: { rules: [rule('policy', ['poddisruptionbudgets', 'poddisruptionbudgets/status'], CHANGE)] },
  podgc: { rules: [rule('', ['pods'], ['delete', 'get']), rule('', ['pods/status'], CHANGE)] },
  replicasets: {
    rules: [
      rule('apps', ['replicasets', 'replicasets/status'], CHANGE),
      rule('', ['pods'], ['create', 'delete', ...CHANGE]),
    ],
  },
  resourcequotas: { rules: [rule('', ['resourcequotas', 'resourcequotas/status'], CHANGE)] },
  scheduler: {
    rules: [
      rule('', ['pods/binding'], ['create']),
      rule('', ['pods'], ['get']),
      rule('', ['pods/status'], CHANGE),
      rule('', ['persistentvolumeclaims'], CHANGE),
    ],
  },
  serviceaccounts: {
    leases: ['serviceaccounts', 'serviceaccounttokens'],
    rules: [
      rule('', ['serviceaccounts'], ['create', 'get']),
      rule('', ['configmaps'], ['create', ...CHANGE]),
      // What it finds in a Secret it keeps to itself, and what it asks a token for is a Secret of the account.
      rule('', ['serviceaccounts/token'], ['create']),
      rule('', ['secrets'], ['delete', ...CHANGE]),
    ],
  },
  services: { rules: [rule('', ['services'], ['get'])], leases: [] },
  volumes: {
    rules: [
      rule('', ['persistentvolumeclaims', 'persistentvolumeclaims/status'], CHANGE),
      rule('', ['persistentvolumes', 'persistentvolumes/status'], ['create', 'delete', ...CHANGE]),
    ],
    leases: ['persistentvolumeclaims', 'persistentvolumes'],
  },
};

/** Of every node's agent; `node-restriction.ts` keeps each to its own. */
const NODE_RULES: readonly PolicyRule[] = [
  rule('', ['nodes', 'nodes/status'], ['create', ...CHANGE]),
  rule('', ['pods'], ['delete', 'get']),
  rule('', ['pods/status'], CHANGE),
  rule('', ['configmaps', 'secrets'], ['get']),
  rule('', ['serviceaccounts/token'], ['create']),
  rule('', ['persistentvolumes'], ['get', 'patch']),
  EVENTS,
];

const labels = { 'kubernetes.io/bootstrapping': 'rbac-defaults' };
const annotations = { 'rbac.authorization.kubernetes.io/autoupdate': 'true' };

const clusterRole = (name: string, rules: readonly PolicyRule[]): ApiObject => ({
  apiVersion: `${RBAC_GROUP}/v1`,
  kind: 'ClusterRole',
  metadata: { name, labels, annotations },
  rules,
});

const clusterRoleBinding = (name: string, subject: { kind: string; name: string }): ApiObject => ({
  apiVersion: `${RBAC_GROUP}/v1`,
  kind: 'ClusterRoleBinding',
  metadata: { name, labels, annotations },
  roleRef: { apiGroup: RBAC_GROUP, kind: 'ClusterRole', name },
  subjects: [{ apiGroup: RBAC_GROUP, ...subject }],
});

/** The Lease of a controller is taken and kept by it alone. A name cannot be demanded of what is created. */
function leaderRole(user: string, leases: readonly string[]): ApiObject[] {
  if (leases.length === 0) return [];
  const metadata = { name: `system::leader-locking-${user}`, namespace: LEASE_NAMESPACE, labels, annotations };
  const group = 'coordination.k8s.io';
  return [
    {
      apiVersion: `${RBAC_GROUP}/v1`,
      kind: 'Role',
      metadata,
      rules: [rule(group, ['leases'], ['create']), { ...rule(group, ['leases'], CHANGE), resourceNames: [...leases] }],
    },
    {
      apiVersion: `${RBAC_GROUP}/v1`,
      kind: 'RoleBinding',
      metadata,
      roleRef: { apiGroup: RBAC_GROUP, kind: 'Role', name: metadata.name },
      subjects: [{ apiGroup: RBAC_GROUP, kind: 'User', name: user }],
    },
  ];
}

/** Everybody who is known may bring several writes at once, and compare moments: each write, and each object, is judged by itself; and follow events, of the kinds that they may watch. */
const USER_RULES: readonly PolicyRule[] = [
  rule('log.reckon.dev', ['restores', 'transactions'], ['create']),
  rule('log.reckon.dev', ['diff', 'events'], ['list']),
];

export const OWN_ROLES: readonly ApiObject[] = [
  clusterRole('system:reckon-user', USER_RULES),
  clusterRoleBinding('system:reckon-user', { kind: 'Group', name: 'system:authenticated' }),
  clusterRole('system:node', NODE_RULES),
  clusterRoleBinding('system:node', { kind: 'Group', name: NODES }),
  ...Object.entries(CONTROLLERS).flatMap(([name, { rules, leases = [name] }]) => {
    const user = `system:controller:${name}`;
    return [
      clusterRole(user, [...rules, EVENTS]),
      clusterRoleBinding(user, { kind: 'User', name: user }),
      ...leaderRole(user, leases),
    ];
  }),
];
