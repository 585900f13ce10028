/** How claims and volumes find each other and part; and that whatever is killed in between, no two of them ever share. */
import fc from 'fast-check';
import t from 'tap';
import { controllers } from '../../../controllers/volumes/index.ts';
import type {
  ClaimObject,
  ClassObject,
  NodeObject,
  PodObject,
  VolumeObject,
} from '../../../controllers/volumes/objects.ts';
import type { ApiObject } from '../../../sdk/index.ts';
import { type Driver, Killed, SmallWorld } from '../small-world.ts';

const core = (resource: string) => ({ group: '', version: 'v1', resource });
const KINDS = {
  Pod: core('pods'),
  Node: core('nodes'),
  PersistentVolume: core('persistentvolumes'),
  PersistentVolumeClaim: core('persistentvolumeclaims'),
  StorageClass: { group: 'storage.k8s.io', version: 'v1', resource: 'storageclasses' },
};
const DRIVER_FINALIZER = 'docker.reckon.dev/volume';
const SELECTED = 'volume.kubernetes.io/selected-node';
let uids = 0;
const make = (kind: string, name: string, rest: object = {}, metadata: object = {}): ApiObject =>
  ({
    apiVersion: kind === 'StorageClass' ? 'storage.k8s.io/v1' : 'v1',
    kind,
    metadata: {
      name,
      ...(kind === 'Pod' || kind === 'PersistentVolumeClaim' ? { namespace: 'shop' } : {}),
      uid: `${name}-${++uids}`,
      ...metadata,
    },
    ...rest,
  }) as ApiObject;
const claimOf = (name: string, spec: object = {}, metadata: object = {}) =>
  make(
    'PersistentVolumeClaim',
    name,
    {
      spec: {
        accessModes: ['ReadWriteOnce'],
        resources: { requests: { storage: '1Gi' } },
        storageClassName: 'now',
        ...spec,
      },
      status: { phase: 'Pending' },
    },
    { finalizers: ['kubernetes.io/pvc-protection'], ...metadata },
  ) as ClaimObject;
const volumeOf = (name: string, spec: object = {}, metadata: object = {}) =>
  make(
    'PersistentVolume',
    name,
    {
      spec: {
        accessModes: ['ReadWriteOnce'],
        capacity: { storage: '1Gi' },
        storageClassName: 'now',
        persistentVolumeReclaimPolicy: 'Retain',
        ...spec,
      },
      status: { phase: 'Pending' },
    },
    { finalizers: ['kubernetes.io/pv-protection'], ...metadata },
  ) as VolumeObject;
const classOf = (name: string, rest: object = {}) =>
  make('StorageClass', name, {
    provisioner: 'docker.reckon.dev',
    reclaimPolicy: 'Delete',
    volumeBindingMode: 'Immediate',
    ...rest,
  }) as ClassObject;
const nodeOf = (name: string) =>
  make(
    'Node',
    name,
    { spec: {}, status: { conditions: [{ type: 'Ready', status: 'True' }] } },
    { labels: { 'kubernetes.io/hostname': name } },
  ) as NodeObject;
const podOf = (name: string, claimName: string, nodeName?: string) =>
  make('Pod', name, {
    spec: {
      containers: [],
      ...(nodeName && { nodeName }),
      volumes: [{ name: 'v', persistentVolumeClaim: { claimName } }],
    },
    status: { phase: 'Running' },
  }) as PodObject;

interface Place {
  readonly world: SmallWorld;
  readonly events: () => string[];
  claim(name: string): ClaimObject | undefined;
  volume(name?: string): VolumeObject | undefined;
}

async function placeOf(...objects: ApiObject[]): Promise<Place> {
  const world = new SmallWorld(KINDS);
  for (const object of objects) world.create(object);
  world.deliver();
  const drivers: Driver[] = world.run(...controllers);
  await world.settle();
  return {
    world,
    events: () => drivers.flatMap(({ events }) => events),
    claim: (name) => world.all<ClaimObject>('PersistentVolumeClaim').find(({ metadata }) => metadata.name === name),
    volume: (name) =>
      world.all<VolumeObject>('PersistentVolume').find(({ metadata }) => name === undefined || metadata.name === name),
  };
}

t.test('a claim gets a volume of its class, and both say so', async (t) => {
  const claim = claimOf('data');
  const { world, events, volume, claim: now } = await placeOf(nodeOf('n'), classOf('now'), claim);
  const name = `pvc-${claim.metadata.uid}`;
  t.match(now('data'), {
    spec: { volumeName: name },
    status: { phase: 'Bound', capacity: { storage: '1Gi' }, accessModes: ['ReadWriteOnce'] },
  });
  t.match(volume(), {
    metadata: { name, finalizers: [DRIVER_FINALIZER] },
    status: { phase: 'Bound' },
    spec: {
      claimRef: { name: 'data', uid: claim.metadata.uid },
      csi: { volumeHandle: name },
      persistentVolumeReclaimPolicy: 'Delete',
    },
  });
  t.strictSame(events(), [`ProvisioningSucceeded data: Successfully provisioned volume ${name}`]);
  t.strictSame(
    world.log.filter((line) => line.startsWith('create')),
    [`create persistentvolumes ${name}`],
  );
  const sequence = world.sequence;
  world.run(...controllers);
  await world.settle();
  t.equal(world.sequence, sequence, 'then nothing is left to do');
});

t.test('why a claim waits is said once', async (t) => {
  const later = classOf('later', { volumeBindingMode: 'WaitForFirstConsumer' });
  const cases: [string, ApiObject[], object, string][] = [
    [
      'no class',
      [nodeOf('n')],
      { storageClassName: undefined },
      'FailedBinding data: no persistent volumes available for this claim and no storage class is set',
    ],
    ['an unknown class', [nodeOf('n')], {}, 'ProvisioningFailed data: storageclass.storage.k8s.io "now" not found'],
    [
      'no consumer',
      [nodeOf('n'), later],
      { storageClassName: 'later' },
      'WaitForFirstConsumer data: waiting for first consumer to be created before binding',
    ],
    [
      'another provisioner',
      [nodeOf('n'), classOf('now', { provisioner: 'x' })],
      {},
      "ExternalProvisioning data: Waiting for a volume to be created either by the external provisioner 'x'",
    ],
    [
      'no provisioner',
      [nodeOf('n'), classOf('now', { provisioner: 'kubernetes.io/no-provisioner' })],
      {},
      'FailedBinding data: no persistent volumes available for this claim',
    ],
    ['no node', [classOf('now')], {}, 'ProvisioningFailed data: no node is ready to hold the volume'],
  ];
  for (const [what, objects, spec, event] of cases) {
    const { world, events, claim } = await placeOf(...objects, claimOf('data', spec));
    t.equal(claim('data')?.status?.phase, 'Pending', what);
    for (let index = 0; index < 5; index++) world.create(podOf(`p${index}`, 'data'));
    world.create(volumeOf('tiny', { capacity: { storage: '1Mi' } }));
    await world.settle();
    t.equal(events().length, 1, `${what}: once`);
    t.ok(events()[0]?.startsWith(event), `${what}: ${events()[0]}`);
  }
  const { world, events } = await placeOf(nodeOf('n'), claimOf('data', { storageClassName: 'later' }));
  world.create(later);
  await world.settle();
  t.match(events(), [/not found/, /waiting for first consumer/], 'another reason is news');
});

t.test('which volume a claim takes', async (t) => {
  const on = (node: string) => ({
    nodeAffinity: {
      required: {
        nodeSelectorTerms: [{ matchExpressions: [{ key: 'kubernetes.io/hostname', operator: 'In', values: [node] }] }],
      },
    },
  });
  const cases: [string, VolumeObject[], ClaimObject, string | undefined][] = [
    [
      'the smallest that is large enough',
      [
        volumeOf('v5', { capacity: { storage: '5Gi' } }),
        volumeOf('v2', { capacity: { storage: '2000Mi' } }),
        volumeOf('v0', { capacity: { storage: '900M' } }),
      ],
      claimOf('data'),
      'v2',
    ],
    ['the first by name of equals', [volumeOf('b'), volumeOf('a')], claimOf('data'), 'a'],
    ['of its class', [volumeOf('a', { storageClassName: 'other' }), volumeOf('b')], claimOf('data'), 'b'],
    [
      'with its access modes',
      [volumeOf('a'), volumeOf('b', { accessModes: ['ReadWriteOnce', 'ReadWriteOncePod'] })],
      claimOf('data', { accessModes: ['ReadWriteOncePod'] }),
      'b',
    ],
    [
      'of its mode',
      [volumeOf('a'), volumeOf('b', { volumeMode: 'Block' })],
      claimOf('data', { volumeMode: 'Block' }),
      'b',
    ],
    [
      'by its labels',
      [volumeOf('a'), volumeOf('b', {}, { labels: { disk: 'ssd' } })],
      claimOf('data', { selector: { matchLabels: { disk: 'ssd' } } }),
      'b',
    ],
    [
      'the one reserved for it',
      [volumeOf('a'), volumeOf('b', { claimRef: { namespace: 'shop', name: 'data' } })],
      claimOf('data'),
      'b',
    ],
    [
      'one reserved for another is not for it',
      [volumeOf('a', { claimRef: { namespace: 'shop', name: 'other' } })],
      claimOf('data', { storageClassName: 'none' }),
      undefined,
    ],
    [
      'one reserved, but too small',
      [volumeOf('a', { claimRef: { namespace: 'shop', name: 'data' }, capacity: { storage: '1Mi' } }), volumeOf('b')],
      claimOf('data'),
      'b',
    ],
    ['the one it names', [volumeOf('a'), volumeOf('z')], claimOf('data', { volumeName: 'z' }), 'z'],
    [
      'on the node of its consumer',
      [volumeOf('a', on('m')), volumeOf('b', on('n'))],
      claimOf('data', {}, { annotations: { [SELECTED]: 'n' } }),
      'b',
    ],
  ];
  for (const [what, volumes, claim, expected] of cases) {
    const place = await placeOf(nodeOf('m'), nodeOf('n'), classOf('now'), ...volumes, claim);
    t.equal(place.claim('data')?.spec?.volumeName, expected, what);
    if (expected) t.equal(place.volume(expected)?.status?.phase, 'Bound', what);
  }
  const { claim, events } = await placeOf(
    nodeOf('n'),
    classOf('now'),
    volumeOf('v', { claimRef: { namespace: 'shop', name: 'x', uid: 'x' } }),
    claimOf('data', { volumeName: 'v' }),
  );
  t.equal(claim('data')?.status?.phase, 'Pending');
  t.match(events(), [/FailedBinding data: volume "v" already bound to a different claim\./]);
});

t.test('the end of a claim', async (t) => {
  for (const policy of ['Delete', 'Retain']) {
    const { world, claim, volume } = await placeOf(
      nodeOf('n'),
      classOf('now', { reclaimPolicy: policy }),
      claimOf('data'),
      podOf('p', 'data', 'n'),
      podOf('waits', 'data'),
    );
    world.delete(claim('data') as ClaimObject);
    await world.settle();
    t.ok(claim('data')?.metadata.deletionTimestamp, 'a pod holds it');
    t.equal(volume()?.status?.phase, 'Bound');
    world.delete(world.all<PodObject>('Pod')[0] as PodObject);
    await world.settle();
    t.equal(claim('data'), undefined, 'a pod without a node does not');
    t.equal(volume()?.status?.phase, 'Released');
    t.equal(volume()?.metadata.deletionTimestamp !== undefined, policy === 'Delete', policy);
    t.strictSame(volume()?.metadata.finalizers, [DRIVER_FINALIZER], 'the agent has the last word');
    if (policy === 'Retain') {
      world.create(claimOf('data', { storageClassName: 'none' }));
      await world.settle();
      t.equal(claim('data')?.spec?.volumeName, undefined, 'what was kept is nobody else’s, not even a namesake’s');
      world.delete(volume() as VolumeObject);
      await world.settle();
      t.equal(
        volume(),
        undefined,
        'a kept volume goes when it is deleted, and the agent has nothing to do with its data',
      );
    }
  }
  const { world, claim, volume } = await placeOf(nodeOf('n'), classOf('now'), claimOf('data'));
  world.delete(volume() as VolumeObject);
  await world.settle();
  t.equal(volume()?.status?.phase, 'Bound', 'a volume that is bound stays, though it is deleted');
  world.delete(claim('data') as ClaimObject);
  world.delete(world.all('Node')[0] as ApiObject);
  await world.settle();
  t.equal(volume(), undefined, 'and goes with its claim, even where its node is gone');
});

t.test('a volume that vanishes under its claim', async (t) => {
  const { world, claim, events, volume } = await placeOf(nodeOf('n'), classOf('now'), claimOf('data'));
  world.edit(volume() as VolumeObject, ({ metadata }) => void (metadata.finalizers = []));
  world.delete(volume() as VolumeObject);
  await world.settle();
  t.equal(claim('data')?.status?.phase, 'Lost');
  t.match(
    events().at(-1),
    'ClaimLost data: Bound claim has lost reference to PersistentVolume. Data on the volume is lost!',
  );
});

t.test('a volume whose data is gone', async (t) => {
  const { world, claim, events, volume } = await placeOf(nodeOf('n'), classOf('now'), claimOf('data'));
  const say = async (state: string | undefined): Promise<void> => {
    world.edit(volume() as VolumeObject, ({ metadata }) => {
      const { ['docker.reckon.dev/data']: _, ...others } = metadata.annotations ?? {};
      metadata.annotations = state === undefined ? others : { ...others, 'docker.reckon.dev/data': state };
    });
    await world.settle();
  };
  await say('made');
  t.strictSame([claim('data')?.status?.phase, volume()?.status?.phase], ['Bound', 'Bound']);
  await say('lost');
  t.equal(claim('data')?.status?.phase, 'Lost');
  t.match(volume()?.status, { phase: 'Failed', reason: 'DataLost', message: /Docker volume ".*" is not on its node/ });
  t.match(events().at(-1), /^ClaimLost data: Bound claim has lost the data of its PersistentVolume: Docker volume/);
  const told = events().length;
  await world.settle();
  t.equal(events().length, told, 'it is said once');
  await say(undefined);
  t.equal(claim('data')?.status?.phase, 'Bound');
  t.strictSame(volume()?.status, { phase: 'Bound' }, 'who takes the note off begins anew');
  await say('lost');
  world.delete(claim('data') as ClaimObject);
  await world.settle();
  t.ok(volume()?.metadata.deletionTimestamp, 'what is lost is given back as well');
});

t.test('whatever is killed between the actions, each claim has one volume and each volume one claim', async () => {
  const claims = fc.array(
    fc.record({
      size: fc.constantFrom('1Gi', '2Gi', '3Gi'),
      named: fc.option(fc.nat(3), { freq: 6 }),
      gone: fc.boolean(),
    }),
    { minLength: 1, maxLength: 5 },
  );
  const volumes = fc.array(
    fc.record({
      size: fc.constantFrom('1Gi', '2Gi', '5Gi'),
      reserved: fc.option(fc.nat(4), { freq: 3 }),
      policy: fc.constantFrom('Retain', 'Delete'),
    }),
    { maxLength: 4 },
  );
  await fc.assert(
    fc.asyncProperty(
      claims,
      volumes,
      fc.boolean(),
      fc.infiniteStream(fc.nat(1000)),
      async (claims, volumes, makes, choices) => {
        const pick = (count: number) => (choices.next().value as number) % Math.max(1, count);
        const world = new SmallWorld(KINDS);
        world.create(nodeOf('n'));
        if (makes) world.create(classOf('now'));
        const actors = world.run(...controllers);
        let kills = 0;
        world.afterWrite = () => {
          check();
          if (kills < 8 && pick(4) === 0) throw (kills++, new Killed());
        };
        /** Never two claims that name one volume, both with its consent; never a claim that has been told so and has not. */
        const check = () => {
          const standing = world.all<VolumeObject>('PersistentVolume');
          for (const volume of standing) {
            const users = world
              .all<ClaimObject>('PersistentVolumeClaim')
              .filter(
                ({ spec, status, metadata }) =>
                  spec?.volumeName === volume.metadata.name &&
                  status?.phase === 'Bound' &&
                  volume.spec?.claimRef?.uid !== metadata.uid,
              );
            if (users.length > 0)
              throw new Error(
                `claim ${users[0]?.metadata.name} is bound to ${volume.metadata.name}, which is another's`,
              );
          }
        };
        const objects: ApiObject[] = [
          ...claims.map(({ size, named }, index) =>
            claimOf(`c${index}`, {
              resources: { requests: { storage: size } },
              ...(named !== null && { volumeName: `v${named}` }),
            }),
          ),
          ...volumes.map(({ size, reserved, policy }, index) =>
            volumeOf(`v${index}`, {
              capacity: { storage: size },
              persistentVolumeReclaimPolicy: policy,
              ...(reserved !== null && { claimRef: { namespace: 'shop', name: `c${reserved}` } }),
            }),
          ),
        ];
        while (objects.length > 0) {
          world.create(objects.splice(pick(objects.length), 1)[0] as ApiObject);
          for (let steps = pick(6); steps > 0; steps--) await actors[pick(2)]?.step(pick);
          world.deliver(world.position + pick(4));
        }
        await world.settle({ pick });
        check();
        const bound = world.all<ClaimObject>('PersistentVolumeClaim').filter(({ status }) => status?.phase === 'Bound');
        for (const volume of world.all<VolumeObject>('PersistentVolume')) {
          const its = bound.filter(({ metadata }) => metadata.uid === volume.spec?.claimRef?.uid);
          if (its.length > 1) throw new Error('a volume has two claims');
          if ((volume.status?.phase === 'Bound') !== (its[0]?.spec?.volumeName === volume.metadata.name))
            throw new Error(`${volume.metadata.name} is ${volume.status?.phase}`);
        }
        if (new Set(bound.map(({ spec }) => spec?.volumeName)).size !== bound.length)
          throw new Error('two claims name one volume');
        if (
          makes &&
          claims.some(
            ({ named }, index) => named === null && !bound.some(({ metadata }) => metadata.name === `c${index}`),
          )
        )
          throw new Error('a claim got nothing');
        for (const [index, { gone }] of claims.entries()) {
          const claim = world
            .all<ClaimObject>('PersistentVolumeClaim')
            .find(({ metadata }) => metadata.name === `c${index}`);
          if (gone && claim) world.delete(claim);
        }
        await world.settle({ pick });
        for (const volume of world.all<VolumeObject>('PersistentVolume')) {
          if (
            volume.status?.phase === 'Released' &&
            (volume.metadata.deletionTimestamp !== undefined) !==
              (volume.spec?.persistentVolumeReclaimPolicy === 'Delete')
          )
            throw new Error(`${volume.metadata.name} does not end as its policy says`);
          const kept = world
            .all<ClaimObject>('PersistentVolumeClaim')
            .some(({ spec, status }) => spec?.volumeName === volume.metadata.name && status?.phase === 'Bound');
          if (kept && volume.metadata.deletionTimestamp) throw new Error('a volume in use is deleted');
        }
      },
    ),
    { numRuns: 150 },
  );
});
