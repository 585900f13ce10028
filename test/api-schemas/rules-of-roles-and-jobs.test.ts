/** What the rules of Roles, bindings and Jobs say, by the words that Kubernetes has for it. */
import { judgeChanges, type Case, type Json } from './judged-changes.ts';

const RBAC = 'rbac.authorization.k8s.io';
const clustered = { name: 'x', uid: 'u' };
const metadata = { ...clustered, namespace: 'default' };
const rules = [{ apiGroups: [''], resources: ['pods'], verbs: ['get'] }];
const podSpec = { containers: [{ name: 'c', image: 'i' }], restartPolicy: 'Never' };
const generated = {
  'batch.kubernetes.io/controller-uid': 'u',
};

/** One of each kind, all right. */
const good: Readonly<Record<string, Json>> = {
  Role: { apiVersion: `${RBAC}/v1`, metadata, rules },
  ClusterRole: { apiVersion: `${RBAC}/v1`, metadata: clustered, rules },
  RoleBinding: {
    apiVersion: `${RBAC}/v1`,
    metadata,
    roleRef: { kind: 'Role', name: 'system:x' },
    subjects: [{ kind: 'ServiceAccount', name: 'a' }],
  },
  ClusterRoleBinding: {
    apiVersion: `${RBAC}/v1`,
    metadata: clustered,
    roleRef: { apiGroup: RBAC, kind: 'ClusterRole', name: 'x' },
    subjects: [{ kind: 'ServiceAccount', name: 'a', namespace: 'b' }],
  },
  Job: {
    apiVersion: 'batch/v1',
    metadata,
    spec: { selector: { matchLabels: generated }, template: { metadata: { labels: generated }, spec: podSpec } },
  },
  CronJob: {
    apiVersion: 'batch/v1',
    metadata,
    spec: { schedule: '* * * * *', jobTemplate: { spec: { template: { spec: podSpec } } } },
  },
};

const cases: readonly Case[] = [
  [
    'Role',
    'rules 0 apiGroups',
    [],
    'rules[0].apiGroups: Required value: resource rules must supply at least one api group',
  ],
  [
    'Role',
    'rules 0 resources',
    undefined,
    'rules[0].resources: Required value: resource rules must supply at least one resource',
  ],
  ['Role', 'rules 0 verbs', [], 'rules[0].verbs: Required value: verbs must contain at least one value'],
  ['Role', 'rules 0 verbs', undefined, 'rules[0].verbs: Required value: verbs must contain at least one value'],
  [
    'Role',
    'rules 0',
    { nonResourceURLs: ['/x'], verbs: ['get'] },
    'rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply to non-resource URLs',
  ],
  ['ClusterRole', 'rules 0', { nonResourceURLs: ['/x'], verbs: ['get'] }],
  [
    'ClusterRole',
    'rules 0 nonResourceURLs',
    ['/x'],
    'rules[0].nonResourceURLs: Invalid value: ["/x"]: rules cannot apply to both regular resources and non-resource URLs',
  ],
  [
    'ClusterRole',
    'aggregationRule',
    { clusterRoleSelectors: [] },
    'aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil',
  ],
  [
    'ClusterRole',
    'aggregationRule',
    {},
    'aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector required if aggregationRule is non-nil',
  ],
  ['RoleBinding', 'roleRef kind', 'ClusterRole'],
  [
    'RoleBinding',
    'roleRef kind',
    'Bar',
    'roleRef.kind: Unsupported value: "Bar": supported values: "Role", "ClusterRole"',
  ],
  ['RoleBinding', 'roleRef apiGroup', 'foo', `roleRef.apiGroup: Unsupported value: "foo": supported values: "${RBAC}"`],
  ['RoleBinding', 'roleRef name', '', 'roleRef.name: Required value'],
  ['RoleBinding', 'roleRef name', '..', 'roleRef.name: Invalid value: "..": may not be \'..\''],
  ['RoleBinding', 'roleRef name', 'a/b', 'roleRef.name: Invalid value: "a/b": may not contain \'/\''],
  [
    'RoleBinding',
    'subjects 0 kind',
    'Bar',
    'subjects[0].kind: Unsupported value: "Bar": supported values: "ServiceAccount", "User", "Group"',
  ],
  [
    'RoleBinding',
    'subjects 0 apiGroup',
    RBAC,
    `subjects[0].apiGroup: Unsupported value: "${RBAC}": supported values: ""`,
  ],
  [
    'RoleBinding',
    'subjects 0',
    { kind: 'User', name: 'a', apiGroup: 'foo' },
    `subjects[0].apiGroup: Unsupported value: "foo": supported values: "${RBAC}"`,
  ],
  ['RoleBinding', 'subjects 0', { kind: 'Group', name: 'system:a/b' }],
  ['RoleBinding', 'subjects 0 name', '', 'subjects[0].name: Required value'],
  ['ClusterRoleBinding', 'subjects 0 namespace', undefined, 'subjects[0].namespace: Required value'],
  [
    'ClusterRoleBinding',
    'roleRef kind',
    'Role',
    'roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole"',
  ],
  [
    'Job',
    'spec template spec restartPolicy',
    undefined,
    'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
  ],
  [
    'Job',
    'spec template spec restartPolicy',
    'Always',
    'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
  ],
  [
    'Job',
    'spec',
    { ...(good['Job']?.['spec'] as Json), completionMode: 'Indexed', parallelism: 1 },
    'spec.completions: Required value: when completion mode is Indexed',
  ],
  [
    'Job',
    'spec selector',
    { matchLabels: { ...generated, app: 'x' } },
    'spec.selector: Invalid value: {"matchLabels":{"batch.kubernetes.io/controller-uid":"u","app":"x"}}: `selector` not auto-generated',
    'spec.template.metadata.labels: Invalid value: {"batch.kubernetes.io/controller-uid":"u"}: `selector` does not match template `labels`',
  ],
  [
    'Job',
    'spec',
    { manualSelector: true, template: { metadata: { labels: { a: 'b' } }, spec: podSpec } },
    'spec.selector: Required value',
    'spec.template.metadata.labels: Invalid value: {"a":"b"}: `selector` does not match template `labels`',
  ],
  [
    'Job',
    'spec backoffLimitPerIndex',
    1,
    'spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode',
  ],
  [
    'Job',
    'spec',
    { ...(good['Job']?.['spec'] as Json), completionMode: 'Indexed', completions: 2, maxFailedIndexes: 1 },
    'spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified',
  ],
  [
    'Job',
    'spec podFailurePolicy',
    { rules: [{ action: 'Ignore', onExitCodes: { operator: 'In', values: [0, 1] } }] },
    'spec.podFailurePolicy.rules[0].onExitCodes.values[0]: Invalid value: 0: must not be 0 for the In operator',
  ],
  [
    'Job',
    'spec podFailurePolicy',
    { rules: [{ action: 'Ignore', onExitCodes: { operator: 'In', containerName: 'd', values: [2, 1] } }] },
    'spec.podFailurePolicy.rules[0].onExitCodes.containerName: Invalid value: "d": must be one of the container or initContainer names in the pod template',
    'spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,1]: must be ordered',
  ],
  [
    'Job',
    'spec podFailurePolicy',
    { rules: [{ action: 'Count' }] },
    'spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required',
  ],
  [
    'Job',
    'spec podFailurePolicy',
    { rules: [{ action: 'FailIndex', onExitCodes: { operator: 'In', values: [1] } }] },
    'spec.podFailurePolicy.rules[0].action: Invalid value: "FailIndex": requires the backoffLimitPerIndex to be set',
  ],
  [
    'Job',
    'spec',
    { podFailurePolicy: { rules: [] }, template: { spec: { ...podSpec, restartPolicy: 'OnFailure' } } },
    'spec.template.spec.restartPolicy: Invalid value: "OnFailure": only "Never" is supported when podFailurePolicy is specified',
  ],
  [
    'CronJob',
    'spec jobTemplate spec manualSelector',
    true,
    'spec.jobTemplate.spec.manualSelector: Unsupported value: true: supported values: "nil", "false"',
  ],
  [
    'CronJob',
    'spec jobTemplate spec selector',
    { matchLabels: { a: 'b' } },
    'spec.jobTemplate.spec.selector: Invalid value: {"matchLabels":{"a":"b"}}: `selector` will be auto-generated',
  ],
  [
    'CronJob',
    'spec jobTemplate spec template spec restartPolicy',
    undefined,
    'spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
  ],
];

judgeChanges(good, cases);
