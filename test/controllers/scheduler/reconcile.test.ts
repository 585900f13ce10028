/** Where a pod goes, what a pod is told that fits nowhere, and that no node is ever given more than it has. */
import fc from 'fast-check';
import t from 'tap';
import type { Namespace, Node, PersistentVolumeClaim, Pod, PodSpec } from '../../../api-schemas/types/core-v1.ts';
import { makeController } from '../../../controllers/scheduler/index.ts';
import { podRequests } from '../../../controllers/scheduler/requests.ts';
import { ApiError, ApiUnreachableError, type ApiObject, type Client } from '../../../sdk/index.ts';
import { SmallWorld } from '../small-world.ts';

const core = (resource: string) => ({ group: '', version: 'v1', resource });
const KINDS = {
  Pod: core('pods'),
  Node: core('nodes'),
  Namespace: core('namespaces'),
  PersistentVolume: core('persistentvolumes'),
  PersistentVolumeClaim: core('persistentvolumeclaims'),
  StorageClass: { group: 'storage.k8s.io', version: 'v1', resource: 'storageclasses' },
};
type PodObject = Pod & ApiObject;
type NodeObject = Node & ApiObject;

const container = (requests: Record<string, string>, extra: object = {}) => ({
  name: 'c',
  image: 'i',
  resources: { requests },
  ...extra,
});
const podOf = (name: string, spec: object = {}, metadata: object = {}): PodObject =>
  ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'shop', ...metadata },
    spec: { containers: [container({ cpu: '100m' })], schedulerName: 'default-scheduler', ...spec } as PodSpec,
    status: { phase: 'Pending' },
  }) as PodObject;
const nodeOf = (name: string, options: { spec?: object; labels?: object; allocatable?: object; ready?: string } = {}) =>
  ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: { 'kubernetes.io/hostname': name, ...options.labels } },
    spec: options.spec ?? {},
    status: {
      allocatable: { cpu: '1', memory: '1Gi', pods: '10', ...options.allocatable },
      conditions: [{ type: 'Ready', status: options.ready ?? 'True' }],
    },
  }) as unknown as NodeObject;

type Answer = 'right' | 'lost before' | 'lost after' | 'refused';

class Cluster extends SmallWorld {
  answer: () => Answer = () => 'right';
  readonly driver;

  constructor(objects: readonly ApiObject[]) {
    super(KINDS);
    this.client = {
      post: (target: { name: string; namespace?: string }, body: object) => this.#bind(target, body),
    } as unknown as Client;
    for (const object of objects) this.create(object);
    this.deliver();
    [this.driver] = this.run(makeController());
  }

  async #bind({ name, namespace = '' }: { name: string; namespace?: string }, body: object): Promise<object> {
    const answer = this.answer();
    if (answer === 'lost before') throw new ApiUnreachableError('no answer');
    if (answer === 'refused') throw new ApiError({ code: 422, reason: 'Invalid', message: 'no' });
    const { target, metadata } = body as { target: { name: string }; metadata: { uid: string } };
    const standing = this.pod(name, namespace);
    if (standing?.metadata.uid !== metadata.uid) throw new ApiError({ code: 404, reason: 'NotFound', message: 'gone' });
    if (standing.spec?.nodeName) throw new ApiError({ code: 409, reason: 'Conflict', message: 'already assigned' });
    this.edit(standing, (pod) => void ((pod.spec ??= { containers: [] }).nodeName = target.name));
    if (answer === 'lost after') throw new ApiUnreachableError('no answer');
    return {};
  }

  pod(name: string, namespace = 'shop'): PodObject | undefined {
    return this.all<PodObject>('Pod').find(
      ({ metadata }) => metadata.name === name && metadata.namespace === namespace,
    );
  }

  told(name: string): string | undefined {
    return this.pod(name)?.status?.conditions?.find(({ type }) => type === 'PodScheduled')?.message;
  }
}

async function place(objects: readonly ApiObject[], ...pods: PodObject[]): Promise<Cluster> {
  const cluster = new Cluster(objects);
  for (const pod of pods) {
    cluster.create(pod);
    await cluster.settle();
  }
  return cluster;
}
const small = nodeOf('small');
const big = nodeOf('big', { allocatable: { cpu: '4', memory: '8Gi' }, labels: { disk: 'ssd' } });

t.test('a pod goes where most is left, and replicas go apart', async (t) => {
  const cluster = await place([small, big], podOf('a'));
  t.equal(cluster.pod('a')?.spec?.nodeName, 'big');
  t.strictSame(cluster.driver?.events, ['Scheduled a: Successfully assigned shop/a to big']);
  const owned = {
    ownerReferences: [{ apiVersion: 'apps/v1', kind: 'ReplicaSet', name: 'r', uid: 'r', controller: true }],
  };
  const spread = await place([small, big], podOf('a', {}, owned), podOf('b', {}, owned));
  t.not(spread.pod('a')?.spec?.nodeName, spread.pod('b')?.spec?.nodeName);
});

t.test('what a pod is told that fits nowhere, in the words of Kubernetes', async (t) => {
  const affinity = (term: object) => ({
    requiredDuringSchedulingIgnoredDuringExecution: [{ topologyKey: 'kubernetes.io/hostname', ...term }],
  });
  const wants = (kind: string, labels: object) => ({
    affinity: { [kind]: affinity({ labelSelector: { matchLabels: labels } }) },
  });
  const cases: [string, NodeObject[], PodObject, string | RegExp][] = [
    ['no nodes', [], podOf('p'), 'no nodes available to schedule pods'],
    [
      'resources',
      [small, big],
      podOf('p', { containers: [container({ cpu: '5', memory: '2Gi' })] }),
      '0/2 nodes are available: 1 Insufficient memory, 2 Insufficient cpu.',
    ],
    [
      'an unknown resource',
      [small],
      podOf('p', { containers: [container({ 'x.io/gpu': '1' })] }),
      '0/1 nodes are available: 1 Insufficient x.io/gpu.',
    ],
    [
      'limits stand in for requests',
      [small],
      podOf('p', { containers: [{ name: 'c', resources: { limits: { cpu: '2' } } }] }),
      /1 Insufficient cpu/,
    ],
    [
      'init containers beside sidecars',
      [small],
      podOf('p', {
        initContainers: [container({ cpu: '300m' }, { restartPolicy: 'Always' }), container({ cpu: '800m' })],
      }),
      /1 Insufficient cpu/,
    ],
    [
      'a node that has only just come',
      [{ ...nodeOf('n'), status: { conditions: [{ type: 'Ready', status: 'False' }] } } as NodeObject],
      podOf('p'),
      '0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.',
    ],
    [
      'too many pods',
      [nodeOf('n', { allocatable: { pods: '0' } })],
      podOf('p'),
      '0/1 nodes are available: 1 Too many pods.',
    ],
    [
      'selector',
      [small],
      podOf('p', { nodeSelector: { disk: 'ssd' } }),
      "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
    ],
    [
      'taint',
      [nodeOf('n', { spec: { taints: [{ key: 'k', value: 'v', effect: 'NoSchedule' }] } })],
      podOf('p', { tolerations: [{ key: 'k', operator: 'Equal', value: 'w' }] }),
      '0/1 nodes are available: 1 node(s) had untolerated taint {k: v}.',
    ],
    [
      'not ready',
      [nodeOf('n', { ready: 'False' })],
      podOf('p'),
      '0/1 nodes are available: 1 node(s) had untolerated taint {node.kubernetes.io/not-ready: }.',
    ],
    [
      'cordoned',
      [nodeOf('n', { spec: { unschedulable: true } })],
      podOf('p'),
      '0/1 nodes are available: 1 node(s) were unschedulable.',
    ],
    [
      'company that is not there',
      [small],
      podOf('p', wants('podAffinity', { app: 'db' })),
      "0/1 nodes are available: 1 node(s) didn't match pod affinity rules.",
    ],
    [
      'no claim',
      [small],
      podOf('p', { volumes: [{ name: 'v', persistentVolumeClaim: { claimName: 'data' } }] }),
      '0/1 nodes are available: persistentvolumeclaim "data" not found.',
    ],
    [
      'gates',
      [small],
      podOf('p', { schedulingGates: [{ name: 'g' }] }),
      'Scheduling is blocked due to non-empty scheduling gates',
    ],
  ];
  for (const [what, nodes, pod, message] of cases) {
    const cluster = await place(nodes, pod);
    t.equal(cluster.pod('p')?.spec?.nodeName, undefined, what);
    t.match(cluster.told('p'), message, what);
    const said = cluster.driver?.events.length;
    cluster.driver?.restart();
    await cluster.settle();
    t.equal(cluster.driver?.events.length, said, `${what}: said once`);
    t.equal(said, what === 'gates' ? 0 : 1, `${what}: events`);
  }
});

t.test('what a pod may pass', async (t) => {
  const cordoned = nodeOf('n', {
    spec: { unschedulable: true, taints: [{ key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' }] },
  });
  const fits: [string, NodeObject, object][] = [
    [
      'a DaemonSet pod and a cordon',
      cordoned,
      { tolerations: [{ key: 'node.kubernetes.io/unschedulable', operator: 'Exists' }] },
    ],
    ['not ready, tolerated', nodeOf('n', { ready: 'False' }), { tolerations: [{ operator: 'Exists' }] }],
    ['only preferred away', nodeOf('n', { spec: { taints: [{ key: 'k', effect: 'PreferNoSchedule' }] } }), {}],
    [
      'affinity by expression and field',
      big,
      {
        affinity: {
          nodeAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: {
              nodeSelectorTerms: [
                { matchExpressions: [{ key: 'disk', operator: 'In', values: ['hdd'] }] },
                {
                  matchExpressions: [{ key: 'disk', operator: 'Exists' }],
                  matchFields: [{ key: 'metadata.name', operator: 'In', values: ['big'] }],
                },
              ],
            },
          },
        },
      },
    ],
  ];
  for (const [what, node, spec] of fits)
    t.equal((await place([node], podOf('p', spec))).pod('p')?.spec?.nodeName, node.metadata.name, what);
  const preferring = {
    affinity: {
      nodeAffinity: {
        preferredDuringSchedulingIgnoredDuringExecution: [
          { weight: 50, preference: { matchFields: [{ key: 'metadata.name', operator: 'In', values: ['small'] }] } },
        ],
      },
    },
  };
  t.equal(
    (await place([small, big], podOf('p', preferring))).pod('p')?.spec?.nodeName,
    'small',
    'a preference outweighs room',
  );
});

t.test('neighbours', async (t) => {
  const web = { labels: { app: 'web' } };
  const term = { topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: { app: 'web' } } };
  const required = { requiredDuringSchedulingIgnoredDuringExecution: [term] };
  const apart = { affinity: { podAntiAffinity: required } };
  const together = { affinity: { podAffinity: required } };
  const cluster = await place(
    [small, big],
    podOf('a', apart, web),
    podOf('b', apart, web),
    podOf('c', apart, web),
    podOf('d', {}, web),
    podOf('e', together),
  );
  t.not(cluster.pod('a')?.spec?.nodeName, cluster.pod('b')?.spec?.nodeName, 'two that keep apart');
  t.equal(
    cluster.told('c'),
    "0/2 nodes are available: 2 node(s) didn't match pod anti-affinity rules, 2 node(s) didn't satisfy existing pods anti-affinity rules.",
  );
  t.match(
    cluster.told('d'),
    "2 node(s) didn't satisfy existing pods anti-affinity rules",
    'a guard keeps those away that do not mind',
  );
  t.ok(cluster.pod('e')?.spec?.nodeName, 'company is found');
  const stranger = podOf('x', {}, { ...web, namespace: 'elsewhere' });
  cluster.create(stranger);
  await cluster.settle();
  t.ok(cluster.pod('x', 'elsewhere')?.spec?.nodeName, 'a term speaks of its own namespace only');
  cluster.delete(cluster.pod('a') as PodObject);
  await cluster.settle();
  t.ok(cluster.pod('c')?.spec?.nodeName ?? cluster.pod('d')?.spec?.nodeName, 'who leaves makes room');

  const first = await place([small, big], podOf('f', together, web), podOf('g', together, web));
  t.ok(first.pod('f')?.spec?.nodeName, 'the first of a group goes anywhere');
  t.equal(first.pod('g')?.spec?.nodeName, first.pod('f')?.spec?.nodeName, 'the second goes there too');

  const everywhere = {
    affinity: {
      podAntiAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: [
          { ...term, namespaceSelector: { matchLabels: { team: 'a' } } },
        ],
      },
    },
  };
  const team = {
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'elsewhere', labels: { team: 'a' } },
  } as unknown as Namespace & ApiObject;
  const guarded = await place(
    [team, small],
    podOf('x', {}, { ...web, namespace: 'elsewhere' }),
    podOf('p', everywhere),
  );
  t.match(guarded.told('p'), 'pod anti-affinity rules', 'namespaces by their labels');

  const even = {
    topologySpreadConstraints: [
      {
        maxSkew: 1,
        topologyKey: 'kubernetes.io/hostname',
        whenUnsatisfiable: 'DoNotSchedule',
        labelSelector: { matchLabels: { app: 'web' } },
      },
    ],
  };
  const skewed = await place(
    [small, nodeOf('other', { allocatable: { pods: '1' } })],
    ...['a', 'b', 'c', 'd'].map((name) => podOf(name, even, web)),
  );
  t.strictSame(
    ['a', 'b', 'c', 'd'].filter((name) => !skewed.pod(name)?.spec?.nodeName),
    ['d'],
    'the fourth would be one too many on one node',
  );
  t.match(skewed.told('d'), "1 Too many pods, 1 node(s) didn't match pod topology spread constraints");
});

t.test('host ports', async (t) => {
  const port = (hostIP?: string) => ({
    containers: [container({}, { ports: [{ containerPort: 80, hostPort: 80, ...(hostIP && { hostIP }) }] })],
  });
  const cluster = await place([small], podOf('a', port('10.0.0.1')), podOf('b', port('10.0.0.2')), podOf('c', port()));
  t.ok(cluster.pod('b')?.spec?.nodeName, 'another address');
  t.match(cluster.told('c'), "1 node(s) didn't have free ports for the requested pod ports");
});

t.test('claims', async (t) => {
  const mount = { volumes: [{ name: 'v', persistentVolumeClaim: { claimName: 'data' } }] };
  const claim = (status: object, extra: object = {}) =>
    ({
      apiVersion: 'v1',
      kind: 'PersistentVolumeClaim',
      metadata: { name: 'data', namespace: 'shop' },
      spec: { storageClassName: 'late', accessModes: ['ReadWriteOnce'], ...extra },
      status,
    }) as unknown as PersistentVolumeClaim & ApiObject;
  const late = {
    apiVersion: 'storage.k8s.io/v1',
    kind: 'StorageClass',
    metadata: { name: 'late' },
    provisioner: 'p',
    volumeBindingMode: 'WaitForFirstConsumer',
  } as unknown as ApiObject;
  const volume = {
    apiVersion: 'v1',
    kind: 'PersistentVolume',
    metadata: { name: 'pv' },
    spec: {
      nodeAffinity: {
        required: {
          nodeSelectorTerms: [
            { matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: ['small'] }] },
          ],
        },
      },
    },
  } as unknown as ApiObject;
  t.match(
    (await place([small, claim({ phase: 'Pending' })], podOf('p', mount))).told('p'),
    'pod has unbound immediate PersistentVolumeClaims',
  );

  const cluster = await place([small, big, late, claim({ phase: 'Pending' })], podOf('p', mount));
  const selected = () =>
    cluster.all<ApiObject>('PersistentVolumeClaim')[0]?.metadata.annotations?.['volume.kubernetes.io/selected-node'];
  t.equal(selected(), 'big', 'the first consumer chooses the node of its volume');
  t.equal(cluster.pod('p')?.spec?.nodeName, undefined, 'and waits for it');
  cluster.delete(big);
  await cluster.settle();
  t.equal(selected(), 'small', 'a node that goes meanwhile is not waited for');
  cluster.create(volume);
  cluster.edit(claim({}), (it) => {
    if (it.spec) it.spec.volumeName = 'pv';
    it.status = { phase: 'Bound' };
  });
  await cluster.settle();
  t.equal(cluster.pod('p')?.spec?.nodeName, 'small');
  const elsewhere = await place([big, volume, claim({ phase: 'Bound' }, { volumeName: 'pv' })], podOf('p', mount));
  t.equal(elsewhere.told('p'), '0/1 nodes are available: 1 node(s) had volume node affinity conflict.');
  const one = await place(
    [small, volume, claim({ phase: 'Bound' }, { volumeName: 'pv', accessModes: ['ReadWriteOncePod'] })],
    podOf('p', mount),
    podOf('q', mount),
  );
  t.match(
    one.told('q'),
    '1 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode',
  );
  one.delete(one.pod('p') as PodObject);
  await one.settle();
  t.ok(one.pod('q')?.spec?.nodeName, 'the next pod gets the claim');
});

t.test(
  'whatever comes and goes and gets lost, no node has more than it can bear, and nobody waits who fits',
  async () => {
    const milli = fc.constantFrom('100m', '250m', '400m', '700m', '1');
    const nodes = fc.array(
      fc.record({ cpu: fc.constantFrom('500m', '1', '2'), pods: fc.constantFrom('1', '2', '4') }),
      { minLength: 1, maxLength: 4 },
    );
    const steps = fc.array(
      fc.oneof(
        {
          weight: 3,
          arbitrary: fc.record({
            kind: fc.constant('pod' as const),
            cpu: milli,
            memory: fc.constantFrom('100Mi', '600Mi'),
          }),
        },
        {
          weight: 1,
          arbitrary: fc.record({ kind: fc.constantFrom('delete' as const, 'end' as const), which: fc.nat(20) }),
        },
      ),
      { maxLength: 25 },
    );
    const answers = fc.infiniteStream(
      fc.constantFrom<Answer>('right', 'right', 'right', 'lost before', 'lost after', 'refused'),
    );
    await fc.assert(
      fc.asyncProperty(
        nodes,
        steps,
        answers,
        fc.infiniteStream(fc.nat(1000)),
        async (nodes, steps, answers, choices) => {
          const cluster = new Cluster(nodes.map((allocatable, index) => nodeOf(`n${index}`, { allocatable })));
          const pick = (count: number) => (choices.next().value as number) % Math.max(1, count);
          const check = () => {
            for (const node of cluster.all<NodeObject>('Node')) {
              const there = cluster
                .all<PodObject>('Pod')
                .filter(({ spec, status }) => spec?.nodeName === node.metadata.name && status?.phase !== 'Succeeded');
              const total = (name: string) =>
                there.reduce((sum, { spec }) => sum + Number(podRequests(spec)[name] ?? 0n), 0) / 1e9;
              const { cpu = '', pods = '' } = node.status?.allocatable ?? {};
              if (
                there.length > Number(pods) ||
                total('cpu') > (cpu.endsWith('m') ? Number.parseInt(cpu) / 1000 : Number(cpu)) ||
                total('memory') > 2 ** 30
              )
                throw new Error(
                  `node ${node.metadata.name} has too much: ${there.map(({ metadata }) => metadata.name).join(', ')}`,
                );
            }
          };
          let lost = 0;
          cluster.answer = () => (lost++ < 40 ? (answers.next().value as Answer) : 'right');
          for (const [index, step] of steps.entries()) {
            if (step.kind === 'pod')
              cluster.create(podOf(`p${index}`, { containers: [container({ cpu: step.cpu, memory: step.memory })] }));
            else {
              const pods = cluster.all<PodObject>('Pod');
              const pod = pods[step.which % Math.max(1, pods.length)];
              if (pod && step.kind === 'delete') cluster.delete(pod);
              else if (pod?.spec?.nodeName) cluster.edit(pod, (it) => void (it.status = { phase: 'Succeeded' }));
            }
            for (let count = pick(4); count > 0; count--) {
              if (pick(2) === 0) cluster.deliver(cluster.position + 1 + pick(3));
              else await cluster.driver?.step(pick);
              check();
            }
          }
          await cluster.settle({ pick });
          check();
          // Any scheduler that starts afresh would place no more.
          const placed = () => cluster.all<PodObject>('Pod').filter(({ spec }) => spec?.nodeName).length;
          const before = placed();
          cluster.run(makeController());
          await cluster.settle();
          if (placed() !== before) throw new Error('a pod that fits was left waiting');
        },
      ),
      { numRuns: 150 },
    );
  },
);

t.test('a decision among thousands of pods is cheap', async (t) => {
  const nodes = Array.from({ length: 20 }, (_, index) =>
    nodeOf(`n${index}`, { allocatable: { cpu: '1000', memory: '1000Gi', pods: '1000' } }),
  );
  const cluster = new Cluster([
    ...nodes,
    ...Array.from({ length: 4_000 }, (_, index) => podOf(`old${index}`, { nodeName: `n${index % 20}` })),
  ]);
  await cluster.settle({ maxSteps: 10_000 });
  for (let index = 0; index < 500; index++) cluster.create(podOf(`new${index}`));
  // Of the processor, which is the same whatever else runs on the machine.
  const started = process.cpuUsage();
  await cluster.settle();
  const { user, system } = process.cpuUsage(started);
  const each = (user + system) / 1000 / 500;
  t.ok(cluster.all<PodObject>('Pod').every(({ spec }) => spec?.nodeName));
  t.ok(each < 20, `${each.toFixed(2)} ms a decision with 4,500 pods`);
});
