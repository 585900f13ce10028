/** The cells that take thought: a pod's one word, ages, ports, selectors; and what a table carries beside them. */
import t from 'tap';
import { loadRegistry } from '../../../api-schemas/registry.ts';
import type { ApiObject, ResourceDefinition } from '../../../api-schemas/schema.ts';
import { humanDuration } from '../../../api-server/table/human-duration.ts';
import { findAll } from '../../../api-server/table/json-path.ts';
import { cellNames, toTable, type TableOptions } from '../../../api-server/table/table.ts';

const registry = loadRegistry();
const NOW = Date.parse('2026-01-02T00:00:00Z');
const OPTIONS: TableOptions = { resourceVersion: '7', includeObject: 'Metadata', nowMs: NOW, version: 'v1' };

function kind(group: string, name: string): ResourceDefinition {
  const definition = registry.byKind(group, 'v1', name);
  if (!definition) throw new Error(`no kind ${name}`);
  return definition;
}

type Json = Record<string, any>;

/** The row of an object as `column: cell`. */
function row(definition: ResourceDefinition, object: Json): Json {
  const whole = {
    apiVersion: 'v1',
    kind: definition.kind,
    metadata: { name: 'x', creationTimestamp: '2026-01-01T23:59:00Z' },
    ...object,
  };
  const table = toTable(definition, [whole as ApiObject], OPTIONS);
  return Object.fromEntries(table.columnDefinitions.map(({ name }, index) => [name, table.rows[0]?.cells[index]]));
}

t.test('every column of every kind has a cell, for the barest of objects too', (t) => {
  for (const definition of registry.resources()) {
    for (const { value } of definition.columns)
      if (value.startsWith('cell:')) t.ok(cellNames.includes(value.slice(5)), `${definition.kind} ${value}`);
    const bare = toTable(definition, [{ apiVersion: 'v1', kind: definition.kind, metadata: { name: 'x' } }], OPTIONS);
    t.equal(bare.rows[0]?.cells[0] === 'x' || definition.kind === 'Event', true, definition.kind);
    t.equal(bare.rows[0]?.cells.length, bare.columnDefinitions.length);
    t.notOk(bare.rows[0]?.cells.includes(undefined), definition.kind);
  }
  t.end();
});

t.test('ages', (t) => {
  const [minute, hour, day] = [60, 3600, 86_400];
  const cases: readonly [seconds: number, text: string][] = [
    [-5, '<invalid>'],
    [-0.5, '0s'],
    [0, '0s'],
    [119, '119s'],
    [2 * minute, '2m'],
    [5 * minute + 3, '5m3s'],
    [10 * minute + 3, '10m'],
    [3 * hour - 1, '179m'],
    [3 * hour, '3h'],
    [3 * hour + 5 * minute, '3h5m'],
    [9 * hour, '9h'],
    [47 * hour, '47h'],
    [2 * day + hour, '2d1h'],
    [8 * day + hour, '8d'],
    [400 * day, '400d'],
    [3 * 365 * day, '3y'],
    [3 * 365 * day + 9 * day, '3y9d'],
    [9 * 365 * day + day, '9y'],
  ];
  for (const [seconds, text] of cases) t.equal(humanDuration(seconds * 1000), text, `${seconds} s`);
  t.end();
});

t.test('what a pod is said to be', (t) => {
  const definition = kind('', 'Pod');
  const running = { ready: true, restartCount: 0, state: { running: {} } };
  const containers = [{ name: 'a' }, { name: 'b' }];
  const cases: readonly [what: string, pod: Json, expected: Json][] = [
    [
      'pending',
      { spec: { containers }, status: { phase: 'Pending' } },
      { Ready: '0/2', Status: 'Pending', Restarts: '0' },
    ],
    [
      'half ready',
      {
        spec: { containers },
        status: { phase: 'Running', containerStatuses: [running, { ...running, ready: false }] },
      },
      { Ready: '1/2', Status: 'Running' },
    ],
    [
      'crashing',
      {
        spec: { containers: [{ name: 'a' }] },
        status: {
          phase: 'Running',
          containerStatuses: [
            {
              restartCount: 3,
              state: { waiting: { reason: 'CrashLoopBackOff' } },
              lastState: { terminated: { finishedAt: '2026-01-01T23:55:00Z' } },
            },
          ],
        },
      },
      { Ready: '0/1', Status: 'CrashLoopBackOff', Restarts: '3 (5m ago)' },
    ],
    [
      'done',
      {
        spec: { containers: [{}] },
        status: {
          phase: 'Succeeded',
          containerStatuses: [{ state: { terminated: { exitCode: 0, reason: 'Completed' } } }],
        },
      },
      { Status: 'Completed' },
    ],
    [
      'failed without a reason',
      {
        spec: { containers: [{}] },
        status: { phase: 'Failed', containerStatuses: [{ state: { terminated: { exitCode: 3 } } }] },
      },
      { Status: 'ExitCode:3' },
    ],
    [
      'killed',
      {
        spec: { containers: [{}] },
        status: { phase: 'Failed', containerStatuses: [{ state: { terminated: { exitCode: 137, signal: 9 } } }] },
      },
      { Status: 'Signal:9' },
    ],
    ['evicted', { spec: { containers: [{}] }, status: { phase: 'Failed', reason: 'Evicted' } }, { Status: 'Evicted' }],
    [
      'one of two done',
      {
        spec: { containers },
        status: {
          phase: 'Running',
          containerStatuses: [{ state: { terminated: { exitCode: 0, reason: 'Completed' } } }, running],
        },
      },
      { Ready: '1/2', Status: 'NotReady' },
    ],
    [
      'initializing',
      {
        spec: { initContainers: [{ name: 'i' }, { name: 'j' }], containers },
        status: {
          phase: 'Pending',
          initContainerStatuses: [
            { name: 'i', state: { terminated: { exitCode: 0 } } },
            { name: 'j', state: { running: {} } },
          ],
        },
      },
      { Ready: '0/2', Status: 'Init:1/2' },
    ],
    [
      'failing to initialize',
      {
        spec: { initContainers: [{ name: 'i' }], containers },
        status: {
          phase: 'Pending',
          initContainerStatuses: [{ name: 'i', restartCount: 2, state: { waiting: { reason: 'CrashLoopBackOff' } } }],
        },
      },
      { Status: 'Init:CrashLoopBackOff', Restarts: '2' },
    ],
    [
      'failed to initialize',
      {
        spec: { initContainers: [{ name: 'i' }], containers },
        status: { phase: 'Failed', initContainerStatuses: [{ name: 'i', state: { terminated: { exitCode: 4 } } }] },
      },
      { Status: 'Init:ExitCode:4' },
    ],
    [
      'with a sidecar',
      {
        spec: { initContainers: [{ name: 's', restartPolicy: 'Always' }], containers: [{ name: 'a' }] },
        status: {
          phase: 'Running',
          initContainerStatuses: [{ name: 's', started: true, ready: true, restartCount: 1, state: { running: {} } }],
          containerStatuses: [running],
        },
      },
      { Ready: '2/2', Status: 'Running', Restarts: '1' },
    ],
    [
      'going',
      {
        metadata: { name: 'x', deletionTimestamp: '2026-01-01T00:00:00Z' },
        spec: { containers },
        status: { phase: 'Running', containerStatuses: [running, running] },
      },
      { Ready: '2/2', Status: 'Terminating' },
    ],
    [
      'gone, its node lost',
      {
        metadata: { name: 'x', deletionTimestamp: '2026-01-01T00:00:00Z' },
        status: { phase: 'Running', reason: 'NodeLost' },
      },
      { Status: 'Unknown' },
    ],
    [
      'gated',
      {
        spec: { containers },
        status: {
          phase: 'Pending',
          conditions: [{ type: 'PodScheduled', status: 'False', reason: 'SchedulingGated' }],
        },
      },
      { Status: 'SchedulingGated' },
    ],
  ];
  for (const [what, pod, expected] of cases) t.match(row(definition, pod), expected, what);
  const done = toTable(
    definition,
    [{ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'x' }, status: { phase: 'Succeeded' } }],
    OPTIONS,
  );
  t.match(done.rows[0]?.conditions, [{ type: 'Completed', status: 'True', reason: 'Succeeded' }]);
  t.end();
});

t.test('other kinds', (t) => {
  t.match(
    row(kind('apps', 'Deployment'), {
      spec: {
        replicas: 3,
        selector: {
          matchLabels: { app: 'web' },
          matchExpressions: [{ key: 'tier', operator: 'In', values: ['b', 'a'] }],
        },
        template: {
          spec: {
            containers: [
              { name: 'a', image: 'i:1' },
              { name: 'b', image: 'j' },
            ],
          },
        },
      },
      status: { readyReplicas: 2, updatedReplicas: 3 },
    }),
    {
      Ready: '2/3',
      'Up-to-date': 3,
      Available: 0,
      Age: '60s',
      Containers: 'a,b',
      Images: 'i:1,j',
      Selector: 'app=web,tier in (a,b)',
    },
  );
  const services = kind('', 'Service');
  t.match(
    row(services, {
      spec: {
        type: 'NodePort',
        clusterIP: '10.0.0.1',
        ports: [
          { port: 80, nodePort: 30080, protocol: 'TCP' },
          { port: 53, protocol: 'UDP' },
        ],
        selector: { b: '2', a: '1' },
      },
    }),
    {
      Type: 'NodePort',
      'Cluster-IP': '10.0.0.1',
      'External-IP': '<none>',
      'Port(s)': '80:30080/TCP,53/UDP',
      Selector: 'a=1,b=2',
    },
  );
  t.match(row(services, { spec: { type: 'LoadBalancer' } }), { 'External-IP': '<pending>' });
  t.match(row(services, { spec: { type: 'ExternalName', externalName: 'example.com' } }), {
    'External-IP': 'example.com',
    'Cluster-IP': '<none>',
    'Port(s)': '<none>',
  });
  t.match(
    row(kind('', 'Node'), {
      metadata: {
        name: 'n',
        labels: { 'node-role.kubernetes.io/worker': '', 'node-role.kubernetes.io/control-plane': '' },
      },
      spec: { unschedulable: true },
      status: {
        conditions: [{ type: 'Ready', status: 'True' }],
        addresses: [{ type: 'InternalIP', address: '10.0.0.9' }],
      },
    }),
    {
      Status: 'Ready,SchedulingDisabled',
      Roles: 'control-plane,worker',
      'Internal-IP': '10.0.0.9',
    },
  );
  t.match(
    row(kind('', 'PersistentVolumeClaim'), {
      spec: { volumeName: 'v', storageClassName: 'fast' },
      status: { phase: 'Bound', capacity: { storage: '1Gi' }, accessModes: ['ReadWriteMany', 'ReadWriteOnce'] },
    }),
    {
      Status: 'Bound',
      Volume: 'v',
      Capacity: '1Gi',
      'Access Modes': 'RWO,RWX',
      StorageClass: 'fast',
      VolumeAttributesClass: '<unset>',
    },
  );
  t.match(
    row(kind('', 'PersistentVolume'), {
      spec: {
        accessModes: ['ReadWriteOnce'],
        claimRef: { namespace: 'n', name: 'c' },
        volumeAttributesClassName: 'gold',
      },
      status: { phase: 'Bound' },
    }),
    { Status: 'Bound', Claim: 'n/c', 'Access Modes': 'RWO', VolumeAttributesClass: 'gold' },
  );
  t.match(
    row(kind('', 'Event'), {
      involvedObject: { kind: 'Pod', name: 'p' },
      lastTimestamp: '2026-01-01T23:59:30Z',
      firstTimestamp: '2026-01-01T23:00:00Z',
      source: { component: 'scheduler' },
      message: ' x \n',
      count: 4,
      reason: 'R',
      type: 'Normal',
    }),
    {
      'Last Seen': '30s',
      Type: 'Normal',
      Reason: 'R',
      Object: 'pod/p',
      Source: 'scheduler',
      Message: 'x',
      'First Seen': '60m',
      Count: 4,
    },
  );
  t.match(
    row(kind('', 'Endpoints'), {
      subsets: [{ addresses: ['1', '2', '3', '4'].map((last) => ({ ip: `10.0.0.${last}` })), ports: [{ port: 80 }] }],
    }),
    { Endpoints: '10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 1 more...' },
  );
  t.match(
    row(kind('batch', 'Job'), {
      spec: { completions: 2 },
      status: { succeeded: 1, startTime: '2026-01-01T23:58:00Z' },
    }),
    { Status: 'Running', Completions: '1/2', Duration: '2m' },
  );
  const cronJobs = kind('batch', 'CronJob');
  t.match(row(cronJobs, { spec: { schedule: '@hourly', suspend: false } }), {
    Schedule: '@hourly',
    Timezone: '<none>',
    Suspend: 'False',
    Active: 0,
    'Last Schedule': '<none>',
    Age: '60s',
  });
  t.match(row(cronJobs, { spec: { timeZone: 'Europe/Vienna', suspend: true } }), {
    Timezone: 'Europe/Vienna',
    Suspend: 'True',
  });
  t.match(row(kind('storage.k8s.io', 'VolumeAttachment'), { status: { attached: false } }), { Attached: false });
  t.match(row(kind('', 'ConfigMap'), { data: { a: '', b: '' }, binaryData: { c: '' } }), { Data: 3 });
  t.end();
});

t.test('how far a Job is said to be', (t) => {
  const definition = kind('batch', 'Job');
  const shown = definition.columns.filter(({ priority }) => priority === 0).map(({ name }) => name);
  t.same(shown, ['Name', 'Status', 'Completions', 'Duration', 'Age']);
  const going = { metadata: { name: 'x', deletionTimestamp: '2026-01-01T00:00:00Z' } };
  const cases: readonly [holding: readonly string[], more: Json, expected: string][] = [
    [[], {}, 'Running'],
    [['SuccessCriteriaMet'], {}, 'SuccessCriteriaMet'],
    [['SuccessCriteriaMet', 'Complete'], {}, 'Complete'],
    [['FailureTarget'], {}, 'FailureTarget'],
    [['FailureTarget', 'Failed'], {}, 'Failed'],
    [['Suspended'], {}, 'Suspended'],
    [['Suspended'], going, 'Terminating'],
    [[], going, 'Terminating'],
    [['Failed'], going, 'Failed'],
    [['Complete'], going, 'Complete'],
  ];
  for (const [holding, more, expected] of cases) {
    const conditions = holding.map((type) => ({ type, status: 'True' }));
    t.equal(row(definition, { ...more, status: { conditions } })['Status'], expected);
  }
  const resumed = { status: { conditions: [{ type: 'Suspended', status: 'False' }] } };
  t.equal(row(definition, resumed)['Status'], 'Running', 'what does not hold is not said');
  t.end();
});

t.test('what stands beside the cells, and the paths of custom columns', (t) => {
  const object: ApiObject = { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'x', namespace: 'd' }, data: {} };
  const definition = kind('', 'ConfigMap');
  t.match(toTable(definition, [object], OPTIONS), {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: { resourceVersion: '7' },
    rows: [{ object: { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: { name: 'x' } } }],
  });
  t.notOk('object' in (toTable(definition, [object], { ...OPTIONS, includeObject: 'None' }).rows[0] ?? {}));
  t.equal(toTable(definition, [object], { ...OPTIONS, includeObject: 'Object' }).rows[0]?.object, object);

  const custom: ResourceDefinition = {
    ...definition,
    columns: [
      {
        name: 'Ready',
        type: 'string',
        format: '',
        priority: 0,
        description: '',
        value: '.status.conditions[?(@.type=="Ready")].status',
      },
      { name: 'First', type: 'integer', format: '', priority: 0, description: '', value: '.spec.sizes[0]' },
      {
        name: 'Zone',
        type: 'string',
        format: '',
        priority: 0,
        description: '',
        value: ".metadata.labels['example.com/zone']",
      },
      { name: 'Since', type: 'date', format: '', priority: 0, description: '', value: '.status.since' },
    ],
  };
  const widget = {
    ...object,
    metadata: { name: 'w', labels: { 'example.com/zone': 'a' } },
    spec: { sizes: [3, 4] },
    status: {
      since: '2026-01-01T23:59:00Z',
      conditions: [
        { type: 'Other', status: 'x' },
        { type: 'Ready', status: 'True' },
      ],
    },
  };
  t.same(toTable(custom, [widget], OPTIONS).rows[0]?.cells, ['True', 3, 'a', '60s']);
  t.same(findAll(widget, '.spec.sizes[*]'), [3, 4]);
  t.same(findAll(widget, '.metadata.labels.example\\.com/zone'), ['a']);
  t.same(findAll(widget, '.constructor.name'), []);
  t.same(findAll(widget, '.a[?('), []);
  t.end();
});
