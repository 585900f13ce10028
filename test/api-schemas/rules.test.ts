/** The CEL rules in the schema files parse, hold for what Kubernetes accepts, and refuse what it refuses. */
import { Environment } from '@marcbachmann/cel-js';
import t from 'tap';
import { loadRegistry } from '../../api-schemas/registry.ts';
import type { Schema, ValidationRule } from '../../api-schemas/schema.ts';

type Json = Record<string, unknown>;

const registry = loadRegistry();
const environment = new Environment({ unlistedVariablesAreDyn: true });

/** Fills in constant defaults, as the API server does before it evaluates rules. */
function fill(value: unknown, schema: Schema): unknown {
  if (Array.isArray(value)) return value.map((item) => (schema.items ? fill(item, schema.items) : item));
  if (typeof value !== 'object' || value === null || schema.properties === undefined) return value;
  const filled: Json = { ...value };
  for (const [name, field] of Object.entries(schema.properties)) {
    if (filled[name] === undefined && field.default !== undefined) filled[name] = structuredClone(field.default);
    if (filled[name] !== undefined) filled[name] = fill(filled[name], field);
  }
  return filled;
}

/** The messages of the rules that do not hold, with the place each stands at. */
function broken(schema: Schema, self: unknown, oldSelf: unknown, place = ''): string[] {
  const found: string[] = [];
  for (const { rule, message, fieldPath = '' } of schema['x-kubernetes-validations'] ?? []) {
    if (/\boldSelf\b/.test(rule) && oldSelf === undefined) continue;
    const holds: unknown = environment.parse(rule)({ self, oldSelf });
    if (holds !== true) found.push(`${place}${fieldPath}: ${message}`);
  }
  if (Array.isArray(self)) {
    // Items of a list have no old value of their own: which of them they were is not said.
    for (const [index, item] of self.entries())
      if (schema.items) found.push(...broken(schema.items, item, undefined, `${place}[${index}]`));
  } else if (typeof self === 'object' && self !== null) {
    for (const [name, value] of Object.entries(self)) {
      const field = schema.properties?.[name] ?? schema.additionalProperties;
      if (typeof field !== 'object') continue;
      found.push(
        ...broken(field, value, (oldSelf as Json | undefined)?.[name], place === '' ? name : `${place}.${name}`),
      );
    }
  }
  return found;
}

function schemaOf(kind: string): Schema {
  // What is served in two shapes is stored, and so judged, as the core's or the newest.
  const shapes = registry.resources().filter((each) => each.kind === kind);
  const definition = shapes.find(({ group }) => group === '') ?? shapes.at(-1);
  if (definition === undefined) throw new Error(`no kind ${kind}`);
  return definition.schema;
}

/** Writes a value at a path such as `spec.ports.0.name`; undefined removes what is there. */
function change(object: Json, path: string, value: unknown): Json {
  const copy = structuredClone(object);
  const steps = path.split('.');
  const last = steps.pop() ?? '';
  const parent = steps.reduce<Json>((node, step) => (node[step] ??= {}) as Json, copy);
  if (value === undefined) delete parent[last];
  else parent[last] = value;
  return copy;
}

const container = {
  name: 'web',
  image: 'nginx',
  ports: [{ containerPort: 80, name: 'http' }],
  env: [
    { name: 'A', value: 'b' },
    { name: 'C', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } },
  ],
  volumeMounts: [{ name: 'data', mountPath: '/data' }],
  livenessProbe: { httpGet: { port: 'http' } },
};
const podSpec = {
  containers: [container],
  initContainers: [{ name: 'first', image: 'busybox' }],
  volumes: [{ name: 'data', emptyDir: {} }],
};
const template = { metadata: { labels: { app: 'web', tier: 'front' } }, spec: podSpec };
const selector = {
  matchLabels: { app: 'web' },
  matchExpressions: [{ key: 'tier', operator: 'In', values: ['front', 'back'] }],
};

const good: Readonly<Record<string, Json>> = {
  Pod: { metadata: { name: 'p' }, spec: podSpec },
  Deployment: {
    metadata: { name: 'd' },
    spec: { selector, template, strategy: { rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } } },
  },
  ReplicaSet: { metadata: { name: 'r' }, spec: { selector, template } },
  DaemonSet: { metadata: { name: 'ds' }, spec: { selector, template, updateStrategy: { rollingUpdate: {} } } },
  StatefulSet: {
    metadata: { name: 's' },
    spec: {
      selector,
      template: { ...template, spec: { containers: [container] } },
      serviceName: 'web',
      volumeClaimTemplates: [
        {
          metadata: { name: 'data' },
          spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
        },
      ],
    },
  },
  Job: {
    metadata: { name: 'j' },
    spec: { completions: 1, template: { spec: { ...podSpec, restartPolicy: 'Never' } } },
  },
  CronJob: {
    metadata: { name: 'c' },
    spec: {
      schedule: '* * * * *',
      jobTemplate: { spec: { template: { spec: { ...podSpec, restartPolicy: 'OnFailure' } } } },
    },
  },
  Service: {
    metadata: { name: 's' },
    spec: {
      clusterIP: '10.0.0.1',
      selector: { app: 'web' },
      ports: [
        { name: 'http', port: 80 },
        { name: 'https', port: 443 },
      ],
    },
  },
  ConfigMap: { metadata: { name: 'c' }, data: { a: 'b' }, binaryData: { c: 'ZA==' } },
  Secret: { metadata: { name: 's' }, type: 'kubernetes.io/tls', data: { 'tls.crt': 'YQ==', 'tls.key': 'Yg==' } },
  PersistentVolumeClaim: {
    metadata: { name: 'c' },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
  },
  PersistentVolume: {
    metadata: { name: 'v' },
    spec: { accessModes: ['ReadWriteOnce'], capacity: { storage: '1Gi' }, hostPath: { path: '/d' } },
  },
  StorageClass: { metadata: { name: 's' }, provisioner: 'example.com/p', parameters: { a: 'b' } },
  Node: {
    metadata: { name: 'n' },
    spec: {
      taints: [
        { key: 'a', effect: 'NoSchedule' },
        { key: 'a', effect: 'NoExecute' },
      ],
    },
  },
  EndpointSlice: { metadata: { name: 'e' }, addressType: 'IPv4', endpoints: [{ addresses: ['10.0.0.1'] }] },
  RoleBinding: {
    metadata: { name: 'r' },
    roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'x' },
    subjects: [{ kind: 'ServiceAccount', name: 'a', namespace: 'b' }],
  },
  PodDisruptionBudget: { metadata: { name: 'p' }, spec: { minAvailable: '50%', selector } },
  HorizontalPodAutoscaler: {
    metadata: { name: 'h' },
    spec: { maxReplicas: 3, scaleTargetRef: { kind: 'Deployment', name: 'd' } },
  },
  Ingress: {
    metadata: { name: 'i' },
    spec: {
      rules: [
        {
          http: {
            paths: [{ path: '/', pathType: 'Prefix', backend: { service: { name: 's', port: { number: 80 } } } }],
          },
        },
      ],
    },
  },
  NetworkPolicy: {
    metadata: { name: 'n' },
    spec: { podSelector: {}, ingress: [{ from: [{ podSelector: {} }], ports: [{ port: 80, endPort: 90 }] }] },
  },
  PriorityClass: { metadata: { name: 'p' }, value: 5 },
  CustomResourceDefinition: {
    metadata: { name: 'widgets.example.com' },
    spec: {
      group: 'example.com',
      scope: 'Namespaced',
      names: { plural: 'widgets', kind: 'Widget' },
      versions: [{ name: 'v1', served: true, storage: true }],
    },
  },
};

t.test('every rule parses', async (t) => {
  const seen = new Set<unknown>();
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null || seen.has(value)) return;
    seen.add(value);
    const rules = (value as Json)['x-kubernetes-validations'];
    // In CustomResourceDefinition the keyword is also the name of a field, whose value is a schema and not a list.
    if (Array.isArray(rules)) {
      for (const { rule, message } of rules as ValidationRule[]) {
        t.doesNotThrow(() => environment.parse(rule), rule);
        t.ok(message, `${rule} says what is wrong`);
      }
    }
    Object.values(value).forEach(visit);
  };
  for (const document of registry.documents().values()) visit(document);
});

t.test('what is right passes, created and updated', async (t) => {
  for (const [kind, object] of Object.entries(good)) {
    const schema = schemaOf(kind);
    const filled = fill(object, schema);
    t.same(broken(schema, filled, undefined), [], `${kind} created`);
    t.same(broken(schema, filled, structuredClone(filled)), [], `${kind} updated to the same`);
  }
  const deployment = good['Deployment'] as Json;
  const bare = change(
    change(deployment, 'spec.selector', { matchExpressions: [{ key: 'old', operator: 'DoesNotExist' }] }),
    'spec.template.metadata',
    undefined,
  );
  t.same(
    broken(schemaOf('Deployment'), fill(bare, schemaOf('Deployment')), undefined),
    [],
    'a selector that is content with no labels',
  );
});

type Case = readonly [kind: string, path: string, value: unknown, expected: string];

const refusedOnCreate: readonly Case[] = [
  [
    'Deployment',
    'spec.template.metadata.labels',
    { app: 'other' },
    'spec.template.metadata.labels: `selector` does not match template `labels`',
  ],
  ['Deployment', 'spec.template.metadata', undefined, 'spec.template.metadata.labels: `selector` does not match'],
  ['Deployment', 'spec.template.metadata.labels.tier', 'side', 'does not match template'],
  ['Deployment', 'spec.selector', {}, 'spec.selector: empty selector is invalid for deployment'],
  [
    'Deployment',
    'spec.selector.matchExpressions.0.values',
    undefined,
    "spec.selector.matchExpressions[0].values: must be specified when `operator` is 'In'",
  ],
  [
    'Deployment',
    'spec.strategy',
    { type: 'Recreate', rollingUpdate: {} },
    'spec.strategy.rollingUpdate: may not be specified',
  ],
  ['Deployment', 'spec.strategy.rollingUpdate', { maxSurge: '0%', maxUnavailable: 0 }, 'maxUnavailable: may not be 0'],
  ['Deployment', 'spec.minReadySeconds', 600, 'spec.progressDeadlineSeconds: must be greater than minReadySeconds'],
  ['Deployment', 'spec.template.spec.restartPolicy', 'Never', 'spec.template.spec.restartPolicy: must be Always'],
  [
    'Deployment',
    'spec.template.spec.volumes',
    undefined,
    'spec.template.spec.containers: every volumeMount must name a volume',
  ],
  [
    'DaemonSet',
    'spec.updateStrategy.rollingUpdate',
    { maxSurge: 1 },
    'spec.updateStrategy.rollingUpdate.maxSurge: may not be set',
  ],
  ['Pod', 'spec.volumes', [], 'spec.containers: every volumeMount must name a volume'],
  ['Pod', 'spec.volumes.0.configMap', { name: 'c' }, 'spec.volumes[0]: may not specify more than 1 volume type'],
  ['Pod', 'spec.initContainers.0.name', 'web', 'container names must be unique'],
  ['Pod', 'spec.containers', [container, container], 'spec.containers: container names must be unique'],
  ['Pod', 'spec.containers.0.restartPolicy', 'Always', 'restartPolicy may not be set for non-init containers'],
  ['Pod', 'spec.containers.0.livenessProbe', {}, 'livenessProbe: must specify a handler type'],
  ['Pod', 'spec.containers.0.livenessProbe.exec', { command: ['x'] }, 'may not specify more than 1 handler type'],
  ['Pod', 'spec.containers.0.livenessProbe.successThreshold', 2, 'livenessProbe.successThreshold: must be 1'],
  ['Pod', 'spec.containers.0.env.1.value', 'x', 'spec.containers[0].env[1].valueFrom: may not be specified'],
  [
    'Pod',
    'spec.containers.0.volumeMounts',
    [
      { name: 'data', mountPath: '/d' },
      { name: 'data', mountPath: '/d' },
    ],
    'mountPath must be unique',
  ],
  [
    'Pod',
    'spec.containers.0.ports',
    [
      { containerPort: 1, name: 'a' },
      { containerPort: 2, name: 'a' },
    ],
    'name must be unique',
  ],
  [
    'Pod',
    'spec.tolerations',
    [{ key: 'a', operator: 'Exists', value: 'b' }],
    'spec.tolerations[0].value: value must be empty',
  ],
  [
    'Pod',
    'metadata.ownerReferences',
    [{ controller: true }, { controller: true }],
    'metadata.ownerReferences: Only one reference',
  ],
  ['Job', 'spec.template.spec.restartPolicy', 'Always', 'spec.template.spec.restartPolicy: valid values'],
  [
    'Job',
    'spec',
    { ...(good['Job']?.['spec'] as Json), completionMode: 'Indexed', completions: undefined },
    'spec.completions: when completion mode is Indexed',
  ],
  ['CronJob', 'metadata.name', 'x'.repeat(53), 'metadata.name: must be no more than 52 characters'],
  ['Service', 'spec.ports', undefined, 'spec.ports: at least one port'],
  ['Service', 'spec.ports.0.name', undefined, 'spec.ports: every port needs a name'],
  ['Service', 'spec.ports.0.name', 'https', 'spec.ports: port names must be unique'],
  ['Service', 'spec.ports.0.nodePort', 30000, 'spec.ports: nodePort may not be used'],
  ['Service', 'spec.type', 'ExternalName', 'spec.externalName: must be set'],
  ['ConfigMap', 'data.c', 'd', 'binaryData: duplicate of key'],
  ['Secret', 'data', { 'tls.crt': 'YQ==' }, 'data: tls.key must be among the keys'],
  ['PersistentVolumeClaim', 'spec.resources', {}, 'spec.resources: storage must be requested'],
  ['PersistentVolume', 'spec.hostPath', undefined, 'spec: must specify a volume type'],
  ['Node', 'spec.taints.1.effect', 'NoSchedule', 'spec.taints: taints must be unique'],
  ['PodDisruptionBudget', 'spec.maxUnavailable', 1, 'spec: minAvailable and maxUnavailable cannot be both set'],
  ['HorizontalPodAutoscaler', 'spec.minReplicas', 4, 'spec.maxReplicas: must be greater'],
  ['Ingress', 'spec.rules', [], 'spec: either `defaultBackend` or `rules`'],
  ['Ingress', 'spec.rules.0.http.paths.0.path', 'x', 'paths[0].path: must be an absolute path'],
  ['NetworkPolicy', 'spec.ingress.0.ports.0.port', undefined, 'endPort: may not be specified'],
  ['CustomResourceDefinition', 'metadata.name', 'widgets', 'metadata.name: must be spec.names.plural'],
];

const refusedOnUpdate: readonly Case[] = [
  ['Deployment', 'spec.selector.matchLabels', { tier: 'front' }, 'spec.selector: field is immutable'],
  ['ReplicaSet', 'spec.selector.matchExpressions', undefined, 'spec.selector: field is immutable'],
  ['StatefulSet', 'spec.serviceName', 'other', 'spec: updates to statefulset spec for fields other than'],
  ['StatefulSet', 'spec.volumeClaimTemplates', [], 'spec: updates to statefulset spec'],
  ['Job', 'spec.completions', 2, 'spec.completions: field is immutable'],
  ['Job', 'spec.template.spec.containers.0.image', 'other', 'spec.template: field is immutable'],
  ['Service', 'spec.clusterIP', '10.0.0.2', 'spec.clusterIP: may not change once set'],
  ['Secret', 'type', 'Opaque', 'type: field is immutable'],
  ['PersistentVolumeClaim', 'spec.accessModes', ['ReadWriteMany'], 'spec: spec is immutable after creation'],
  ['StorageClass', 'parameters', undefined, 'parameters: updates to parameters are forbidden'],
  ['StorageClass', 'provisioner', 'other', 'provisioner: updates to provisioner are forbidden'],
  ['RoleBinding', 'roleRef.name', 'y', 'roleRef: cannot change roleRef'],
  ['PriorityClass', 'value', 6, 'value: may not be changed'],
  ['EndpointSlice', 'addressType', 'IPv6', 'addressType: field is immutable'],
];

t.test('what is wrong is refused, at its place', async (t) => {
  for (const [kind, path, value, expected] of refusedOnCreate) {
    const schema = schemaOf(kind);
    const found = broken(schema, fill(change(good[kind] as Json, path, value), schema), undefined);
    t.ok(
      found.some((each) => each.includes(expected)),
      `${kind} ${path} = ${JSON.stringify(value)}: ${JSON.stringify(found)}`,
    );
  }
});

t.test('what may not change does not change', async (t) => {
  for (const [kind, path, value, expected] of refusedOnUpdate) {
    const schema = schemaOf(kind);
    const old = fill(good[kind], schema) as Json;
    const found = broken(schema, fill(change(old, path, value), schema), old);
    t.ok(
      found.some((each) => each.includes(expected)),
      `${kind} ${path} = ${JSON.stringify(value)}: ${JSON.stringify(found)}`,
    );
  }
});

t.test('what may change does', async (t) => {
  const passes = (kind: string, old: Json, next: Json): void => {
    const schema = schemaOf(kind);
    t.same(broken(schema, fill(next, schema), fill(old, schema)), [], kind);
  };
  const base = (kind: string): Json => structuredClone(good[kind] as Json);
  passes(
    'Deployment',
    base('Deployment'),
    change(base('Deployment'), 'spec.template.spec.containers.0.image', 'nginx:2'),
  );
  passes('StatefulSet', base('StatefulSet'), change(base('StatefulSet'), 'spec.replicas', 3));
  passes(
    'Job',
    change(base('Job'), 'spec.suspend', true),
    change(change(base('Job'), 'spec.suspend', true), 'spec.template.metadata', { labels: { a: 'b' } }),
  );
  passes(
    'Service',
    base('Service'),
    change(
      change(change(base('Service'), 'spec.type', 'ExternalName'), 'spec.externalName', 'example.com'),
      'spec.clusterIP',
      undefined,
    ),
  );
  passes(
    'PersistentVolumeClaim',
    base('PersistentVolumeClaim'),
    change(base('PersistentVolumeClaim'), 'spec.volumeName', 'pv-1'),
  );
  passes(
    'PersistentVolumeClaim',
    base('PersistentVolumeClaim'),
    change(base('PersistentVolumeClaim'), 'spec.resources.requests.storage', '2Gi'),
  );

  const frozen = change(base('ConfigMap'), 'immutable', true);
  passes('ConfigMap', base('ConfigMap'), frozen);
  passes('ConfigMap', frozen, change(frozen, 'metadata.labels', { a: 'b' }));
  const schema = schemaOf('ConfigMap');
  t.match(broken(schema, change(frozen, 'data.a', 'c'), frozen), [/data: field is immutable when `immutable` is set/]);
  t.match(broken(schema, change(frozen, 'data', undefined), frozen), [/data: field is immutable/]);
  t.match(broken(schema, base('ConfigMap'), frozen), [/immutable: field is immutable/]);
});
