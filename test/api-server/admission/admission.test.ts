/** What admission makes of a manifest: pruned, defaulted, judged; the words are those that scripts and people know from Kubernetes. */
import t from 'tap';
import { loadRegistry } from '../../../api-schemas/registry.ts';
import type { ApiObject, ResourceDefinition } from '../../../api-schemas/schema.ts';
import { applyDefaults } from '../../../api-server/admission/defaults.ts';
import { pruneUnknown } from '../../../api-server/admission/prune.ts';
import { validate } from '../../../api-server/admission/validate.ts';

const registry = loadRegistry();

function kind(group: string, version: string, name: string): ResourceDefinition {
  const definition = registry.byKind(group, version, name);
  if (!definition) throw new Error(`no kind ${name}`);
  return definition;
}

const deployments = kind('apps', 'v1', 'Deployment');
const pods = kind('', 'v1', 'Pod');
const services = kind('', 'v1', 'Service');
const configMaps = kind('', 'v1', 'ConfigMap');
const claims = kind('', 'v1', 'PersistentVolumeClaim');

type Json = Record<string, any>;

const deployment = (change: (object: Json) => void = () => {}): Json => {
  const object: Json = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web', namespace: 'default', labels: { app: 'web' } },
    spec: {
      selector: { matchLabels: { app: 'web' } },
      template: {
        metadata: { labels: { app: 'web' } },
        spec: { containers: [{ name: 'c', image: 'nginx' }] },
      },
    },
  };
  change(object);
  return object;
};

const pod = (change: (object: Json) => void = () => {}): Json => {
  const object: Json = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p', namespace: 'default' },
    spec: { containers: [{ name: 'c', image: 'nginx:1' }] },
  };
  change(object);
  return object;
};

/** What a manifest becomes, and what is wrong with it, as `field: message`. */
function admit(definition: ResourceDefinition, object: Json, old?: Json): { object: Json; faults: string[] } {
  const { mistyped } = pruneUnknown(object, definition.schema);
  if (mistyped.length > 0) throw new Error(mistyped.join('; '));
  applyDefaults(object, definition.schema);
  const faults = validate(object as ApiObject, old as ApiObject | undefined, definition);
  return { object, faults: faults.map(({ field, message }) => `${field}: ${message}`) };
}

t.test('decoding', (t) => {
  t.test('an unknown field is removed, and the one that was meant is named', (t) => {
    const object = deployment((each) => {
      each['spec'].replica = 3;
      each['spec'].template.spec.contianers = [];
      each['spec'].template.spec.containers[0].nothingLikeIt = true;
    });
    const { unknown } = pruneUnknown(object, deployments.schema);
    t.same(
      new Map(unknown.map(({ path, nearest }) => [path, nearest])),
      new Map([
        ['spec.replica', 'spec.replicas'],
        ['spec.template.spec.contianers', 'spec.template.spec.containers'],
        ['spec.template.spec.containers[0].nothingLikeIt', undefined],
      ]),
    );
    t.same(object, deployment());
    t.end();
  });

  t.test('wrong JSON types are all told, in the words of Go', (t) => {
    const object = deployment((each) => {
      each['spec'].replicas = 'three';
      each['spec'].paused = 1;
      each['spec'].template.spec.containers[0].image = ['nginx'];
      each['metadata'].labels.app = 7;
      each['spec'].minReadySeconds = 1.5;
    });
    t.same(
      [...pruneUnknown(object, deployments.schema).mistyped].sort(),
      [
        'json: cannot unmarshal array into Go struct field Container.spec.template.spec.containers.image of type string',
        'json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.minReadySeconds of type int32',
        'json: cannot unmarshal number into Go struct field DeploymentSpec.spec.paused of type bool',
        'json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels.app of type string',
        'json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32',
      ].sort(),
    );
    t.end();
  });

  t.test('null is absent; quantities and times take the form in which they are stored', (t) => {
    const object = pod((each) => {
      each['metadata'].creationTimestamp = null;
      each['spec'].nodeName = null;
      each['spec'].containers[0].resources = { limits: { cpu: 0.5, memory: '1024Mi' }, requests: { cpu: '1000m' } };
      each['status'] = { startTime: '2024-01-01T02:00:00.5+02:00' };
    });
    t.same(pruneUnknown(object, pods.schema), { unknown: [], mistyped: [] });
    t.notOk('creationTimestamp' in object['metadata']);
    t.notOk('nodeName' in object['spec']);
    t.same(object['spec'].containers[0].resources, { limits: { cpu: '500m', memory: '1Gi' }, requests: { cpu: '1' } });
    t.equal(object['status'].startTime, '2024-01-01T00:00:00Z');
    t.end();
  });

  t.test('prototype keys are ordinary: unknown as fields, data as keys of a map', (t) => {
    const text =
      '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","namespace":"d"},"__proto__":{"a":1},"constructor":1,"data":{"__proto__":"kept","toString":"kept"}}';
    const object = JSON.parse(text) as Json;
    const { unknown } = pruneUnknown(object, configMaps.schema);
    t.same(unknown.map(({ path }) => path).sort(), ['__proto__', 'constructor']);
    t.same(Object.keys(object['data']), ['__proto__', 'toString']);
    t.same(admit(configMaps, object).faults, []);
    t.equal(Object.getPrototypeOf(object), Object.prototype);
    t.equal(({} as Json)['a'], undefined);
    t.end();
  });
  t.end();
});

t.test('defaults', (t) => {
  t.test('a Deployment gets what Kubernetes gives it, and a second time changes nothing', (t) => {
    const { object, faults } = admit(deployments, deployment());
    t.same(faults, []);
    t.match(object['spec'], {
      replicas: 1,
      revisionHistoryLimit: 10,
      progressDeadlineSeconds: 600,
      strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge: '25%', maxUnavailable: '25%' } },
      template: {
        spec: {
          restartPolicy: 'Always',
          dnsPolicy: 'ClusterFirst',
          terminationGracePeriodSeconds: 30,
          schedulerName: 'default-scheduler',
          containers: [{ imagePullPolicy: 'Always', terminationMessagePath: '/dev/termination-log' }],
        },
      },
    });
    t.notOk('enableServiceLinks' in object['spec'].template.spec, 'a template is no pod yet');
    const again = structuredClone(object);
    applyDefaults(again, deployments.schema);
    t.same(again, object);
    t.end();
  });

  t.test('what depends on other fields', (t) => {
    const recreate = admit(
      deployments,
      deployment((each) => (each['spec'].strategy = { type: 'Recreate' })),
    ).object;
    t.same(recreate['spec'].strategy, { type: 'Recreate' });

    const full = admit(
      pods,
      pod((each) => {
        each['spec'].hostNetwork = true;
        each['spec'].volumes = [{ name: 'v' }];
        each['spec'].containers = ['a', 'b:latest', 'c:1', 'd@sha256:00', 'host:5000/e'].map((image, index) => ({
          name: `c${index}`,
          image,
        }));
        Object.assign(each['spec'].containers[0], {
          ports: [{ containerPort: 80 }],
          resources: { limits: { cpu: '1', memory: '1Gi' }, requests: { cpu: '500m' } },
        });
      }),
    ).object['spec'];
    t.same(
      full.containers.map((each: Json) => each['imagePullPolicy']),
      ['Always', 'Always', 'IfNotPresent', 'IfNotPresent', 'Always'],
    );
    t.same(full.containers[0].resources.requests, { cpu: '500m', memory: '1Gi' });
    t.same(full.containers[0].ports, [{ containerPort: 80, protocol: 'TCP', hostPort: 80 }]);
    t.same(full.volumes, [{ name: 'v', emptyDir: {} }]);

    const service = (spec: Json): Json => ({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 's', namespace: 'd' },
      spec,
    });
    const nodePort = admit(services, service({ type: 'NodePort', ports: [{ port: 80 }] })).object['spec'];
    t.match(nodePort, {
      ports: [{ port: 80, targetPort: 80, protocol: 'TCP' }],
      externalTrafficPolicy: 'Cluster',
      internalTrafficPolicy: 'Cluster',
      sessionAffinity: 'None',
    });
    const external = admit(services, service({ type: 'ExternalName', externalName: 'example.com' })).object['spec'];
    t.notOk('internalTrafficPolicy' in external);
    t.end();
  });

  t.test('how an autoscaler behaves where only a part of it is said', (t) => {
    const definition = kind('autoscaling', 'v2', 'HorizontalPodAutoscaler');
    const behaviorOf = (behavior?: Json): Json => {
      const { object, faults } = admit(definition, {
        metadata: { name: 'h', namespace: 'd' },
        spec: { scaleTargetRef: { kind: 'Deployment', name: 'web' }, maxReplicas: 3, ...(behavior && { behavior }) },
      });
      t.same(faults, []);
      return object['spec'].behavior;
    };
    const percent = { type: 'Percent', value: 100, periodSeconds: 15 };
    const scaleUp = {
      stabilizationWindowSeconds: 0,
      selectPolicy: 'Max',
      policies: [{ type: 'Pods', value: 4, periodSeconds: 15 }, percent],
    };
    const scaleDown = { selectPolicy: 'Max', policies: [percent] };
    const one = [{ type: 'Pods', value: 1, periodSeconds: 60 }];
    t.equal(behaviorOf(), undefined);
    t.same(behaviorOf({}), { scaleUp, scaleDown });
    t.same(behaviorOf({ scaleDown: { stabilizationWindowSeconds: 60 } }), {
      scaleUp,
      scaleDown: { ...scaleDown, stabilizationWindowSeconds: 60 },
    });
    t.same(behaviorOf({ scaleUp: { policies: one }, scaleDown: { selectPolicy: 'Disabled' } }), {
      scaleUp: { ...scaleUp, policies: one },
      scaleDown: { ...scaleDown, selectPolicy: 'Disabled' },
    });
    t.end();
  });

  t.test('a Job, and the template of one', (t) => {
    const spec = (more: Json = {}): Json => ({
      ...more,
      template: { spec: { restartPolicy: 'Never', containers: [{ name: 'c', image: 'i:1' }] } },
    });
    const job = (more?: Json): Json =>
      admit(kind('batch', 'v1', 'Job'), { metadata: { name: 'j', namespace: 'd' }, spec: spec(more) }).object['spec'];
    t.match(job(), {
      backoffLimit: 6,
      completionMode: 'NonIndexed',
      completions: 1,
      parallelism: 1,
      suspend: false,
      manualSelector: false,
      podReplacementPolicy: 'TerminatingOrFailed',
    });
    t.equal(job({ completions: 2, completionMode: 'Indexed', backoffLimitPerIndex: 1 })['backoffLimit'], 2 ** 31 - 1);
    const { object, faults } = admit(kind('batch', 'v1', 'CronJob'), {
      metadata: { name: 'c', namespace: 'd' },
      spec: { schedule: '@hourly', jobTemplate: { spec: spec() } },
    });
    t.same(faults, []);
    t.match(object['spec'], { concurrencyPolicy: 'Allow', suspend: false });
    t.same(Object.keys(object['spec'].jobTemplate.spec), ['template']);
    t.match(object['spec'].jobTemplate.spec.template.spec, { dnsPolicy: 'ClusterFirst' });
    t.end();
  });

  t.test('single fields of single kinds', (t) => {
    const labels = { app: 'web' };
    const template = { metadata: { labels }, spec: { containers: [{ name: 'c', image: 'i:1' }] } };
    const controller = (metadata: Json): Json =>
      admit(kind('', 'v1', 'ReplicationController'), {
        metadata: { name: 'r', namespace: 'd', ...metadata },
        spec: { template: structuredClone(template) },
      }).object;
    t.match(controller({}), { metadata: { labels }, spec: { selector: labels } });
    t.same(controller({ labels: {} })['metadata'].labels, labels);
    t.same(controller({ labels: { own: 'yes' } })['metadata'].labels, { own: 'yes' });

    const claim = { metadata: { name: 'data' }, spec: { accessModes: ['ReadWriteOnce'] } };
    const set = admit(kind('apps', 'v1', 'StatefulSet'), {
      metadata: { name: 's', namespace: 'd' },
      spec: { selector: { matchLabels: labels }, serviceName: 's', template, volumeClaimTemplates: [claim] },
    }).object;
    t.match(set, {
      spec: { volumeClaimTemplates: [{ apiVersion: 'v1', kind: 'PersistentVolumeClaim' }] },
      status: { replicas: 0, availableReplicas: 0 },
    });
    t.match(admit(kind('storage.k8s.io', 'v1', 'CSIDriver'), { metadata: { name: 'd' }, spec: {} }).object, {
      spec: { seLinuxMount: false },
    });
    const attachment = { metadata: { name: 'a' }, spec: { attacher: 'd', nodeName: 'n', source: {} } };
    t.same(admit(kind('storage.k8s.io', 'v1', 'VolumeAttachment'), attachment).object['status'], { attached: false });
    t.end();
  });
  t.end();
});

const invalidSubdomain =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

t.test('faults', (t) => {
  t.test('everything that is wrong is told at once, once, where it is', (t) => {
    const { faults } = admit(
      deployments,
      deployment((each) => {
        each['metadata'].name = 'Web_';
        each['metadata'].labels['bad key!'] = 'x';
        each['spec'].replicas = -1;
        each['spec'].selector.matchLabels = { app: 'other' };
        each['spec'].strategy = { type: 'Sideways' };
        const { spec } = each['spec'].template;
        spec.restartPolicy = 'Sometimes';
        spec.containers.push({
          name: 'c',
          image: 'x',
          volumeMounts: [{ name: 'nope', mountPath: '/y' }],
          ports: [{ containerPort: 70000 }, { name: 'a-port-name-that-is-too-long', containerPort: 1 }],
          env: [{ name: 'E', value: 'v', valueFrom: { fieldRef: { fieldPath: 'metadata.name' } } }],
          resources: { requests: { cpu: '2' }, limits: { cpu: '1' } },
          livenessProbe: { exec: { command: ['x'] }, tcpSocket: { port: 1 } },
        });
        delete spec.containers[0].image;
      }),
    );
    const container = 'spec.template.spec.containers[1]';
    const expected = [
      `metadata.name: Invalid value: "Web_": ${invalidSubdomain}`,
      'spec.replicas: Invalid value: -1: must be greater than or equal to 0',
      'spec.strategy.type: Unsupported value: "Sideways": supported values: "Recreate", "RollingUpdate"',
      'spec.template.spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure"',
      'spec.template.spec.containers[0].image: Required value',
      'spec.template.metadata.labels: Invalid value: {"app":"web"}: `selector` does not match template `labels`',
      `${container}.name: Duplicate value: "c"`,
      `${container}.volumeMounts[0].name: Not found: "nope"`,
      `${container}.env[0].valueFrom: Invalid value: "": may not be specified when \`value\` is not empty`,
      `${container}.resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1`,
      `${container}.livenessProbe.tcpSocket: Forbidden: may not specify more than 1 handler type`,
    ];
    for (const fault of expected) t.ok(faults.includes(fault), fault);
    const fields = faults.map((fault) => fault.slice(0, fault.indexOf(': ')));
    for (const field of ['metadata.labels', `${container}.ports[0].containerPort`, `${container}.ports[1].name`])
      t.ok(fields.includes(field), field);
    t.equal(new Set(fields).size, fields.length, 'no field is told of twice');
    t.equal(faults.length, expected.length + 3, `nothing else: ${faults.join('\n')}`);
    t.end();
  });

  const refused: readonly [what: string, definition: ResourceDefinition, object: Json, fault: string][] = [
    [
      'no name',
      configMaps,
      { metadata: { namespace: 'd' } },
      'metadata.name: Required value: name or generateName is required',
    ],
    [
      'a namespace on a cluster-scoped kind',
      kind('', 'v1', 'Namespace'),
      { metadata: { name: 'n', namespace: 'd' } },
      'metadata.namespace: Forbidden: not allowed on this type',
    ],
    [
      'a bad label value',
      configMaps,
      { metadata: { name: 'n', namespace: 'd', labels: { a: '-' } } },
      'metadata.labels: Invalid value: "-": a valid label',
    ],
    [
      'a bad ConfigMap key',
      configMaps,
      { metadata: { name: 'n', namespace: 'd' }, data: { 'a b': '' } },
      'data[a b]: Invalid value: "a b": a valid config key',
    ],
    [
      'too many annotations',
      configMaps,
      { metadata: { name: 'n', namespace: 'd', annotations: { a: 'x'.repeat(262144) } } },
      'metadata.annotations: Too long: may not be more than 262144 bytes',
    ],
    ['no selector', deployments, deployment((each) => delete each['spec'].selector), 'spec.selector: Required value'],
    [
      'an empty selector',
      deployments,
      deployment((each) => (each['spec'].selector = {})),
      'spec.selector: Invalid value: {}: empty selector is invalid',
    ],
    [
      'no containers',
      deployments,
      deployment((each) => (each['spec'].template.spec.containers = [])),
      'spec.template.spec.containers: Required value',
    ],
    [
      'a rollout that cannot move',
      deployments,
      deployment((each) => (each['spec'].strategy = { rollingUpdate: { maxSurge: 0, maxUnavailable: 0 } })),
      'spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0',
    ],
    [
      'a malformed percentage',
      deployments,
      deployment((each) => (each['spec'].strategy = { rollingUpdate: { maxSurge: 'lots' } })),
      'spec.strategy.rollingUpdate.maxSurge: Invalid value: "lots": ',
    ],
    [
      'a service without ports',
      services,
      { metadata: { name: 's', namespace: 'd' }, spec: {} },
      'spec.ports: Required value',
    ],
    [
      'two ports without names',
      services,
      { metadata: { name: 's', namespace: 'd' }, spec: { ports: [{ port: 1 }, { port: 2 }] } },
      'spec.ports[0].name: Required value',
    ],
    [
      'the same port twice',
      services,
      {
        metadata: { name: 's', namespace: 'd' },
        spec: {
          ports: [
            { name: 'a', port: 1 },
            { name: 'b', port: 1 },
          ],
        },
      },
      'spec.ports[1]: Duplicate value: {"port":1,"protocol":"TCP"}',
    ],
    [
      'a claim of nothing',
      claims,
      {
        metadata: { name: 'c', namespace: 'd' },
        spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '0' } } },
      },
      'spec.resources[storage]: Invalid value: "0": must be greater than zero',
    ],
    [
      'an owner without uid',
      configMaps,
      { metadata: { name: 'n', namespace: 'd', ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'p' }] } },
      'metadata.ownerReferences[0].uid: Invalid value: "": must not be empty',
    ],
  ];
  for (const [what, definition, object, fault] of refused) {
    t.test(`refuses ${what}`, (t) => {
      const { faults } = admit(definition, structuredClone(object));
      t.ok(
        faults.some((each) => each.startsWith(fault)),
        `${fault}\n got:\n${faults.join('\n')}`,
      );
      t.end();
    });
  }
  t.end();
});

t.test('updates', (t) => {
  const stored = admit(
    pods,
    pod((each) => (each['metadata'].uid = 'u')),
  ).object;
  const changed = (change: (object: Json) => void): string[] => {
    const object = structuredClone(stored);
    change(object);
    return admit(pods, object, structuredClone(stored)).faults;
  };
  t.same(
    changed(() => {}),
    [],
  );
  t.same(
    changed((each) => (each['spec'].containers[0].image = 'nginx:2')),
    [],
    'the image may change',
  );
  t.same(
    changed((each) => (each['spec'].tolerations = [{ key: 'k', operator: 'Exists' }])),
    [],
    'tolerations may be added',
  );
  t.same(
    changed((each) => (each['spec'].nodeName = 'n1')),
    [],
    'binding',
  );
  t.match(
    changed((each) => (each['spec'].containers[0].command = ['sh'])),
    [/^spec: Forbidden: pod updates may not change fields other than `spec.containers\[\*\].image`/],
  );
  t.match(
    changed((each) => each['spec'].containers.push({ name: 'd', image: 'x' })),
    [/^spec.containers: Forbidden: pod updates may not add or remove containers/],
  );

  const old = admit(deployments, deployment()).object;
  const moved = structuredClone(old);
  moved['spec'].selector.matchLabels = { app: 'b' };
  moved['spec'].template.metadata.labels = { app: 'b' };
  t.match(admit(deployments, moved, old).faults, [/^spec\.selector: Invalid value: .*: field is immutable$/]);

  const frozen: Json = { metadata: { name: 'n', namespace: 'd' }, immutable: true, data: { a: '1' } };
  const thawed: Json = { metadata: { name: 'n', namespace: 'd' }, data: { a: '2' } };
  t.same(
    admit(configMaps, thawed, frozen)
      .faults.map((each) => each.split(':')[0])
      .sort(),
    ['data', 'immutable'],
  );
  t.end();
});
