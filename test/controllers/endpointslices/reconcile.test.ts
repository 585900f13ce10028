/** Which addresses stand behind a Service: exactly those of its pods, in slices that change only where something has changed. */
import fc from 'fast-check';
import t from 'tap';
import type { Endpoint } from '../../../api-schemas/types/discovery-v1.ts';
import type { PodObject, ServiceObject } from '../../../controllers/endpointslices/endpoints-of.ts';
import { controller } from '../../../controllers/endpointslices/index.ts';
import type { EndpointsObject } from '../../../controllers/endpointslices/endpoints-of.ts';
import type { SliceObject } from '../../../controllers/endpointslices/slice-changes.ts';
import { Killed, SmallWorld } from '../small-world.ts';

const core = (resource: string) => ({ group: '', version: 'v1', resource });
const KINDS = {
  Service: core('services'),
  Pod: core('pods'),
  Endpoints: core('endpoints'),
  EndpointSlice: { group: 'discovery.k8s.io', version: 'v1', resource: 'endpointslices' },
};
const serviceOf = (spec: object = {}, labels: object = {}) =>
  ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web', namespace: 'shop', uid: 'web', labels },
    spec: {
      clusterIP: '10.96.0.1',
      selector: { app: 'web' },
      ports: [{ name: 'http', port: 80, targetPort: 'http' }],
      ...spec,
    },
  }) as unknown as ServiceObject;
const podOf = (
  index: number,
  options: { ready?: boolean; port?: number; phase?: string; ip?: string; spec?: object } = {},
) =>
  ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: `p${index}`, namespace: 'shop', uid: `p${index}`, labels: { app: 'web' } },
    spec: {
      nodeName: 'n',
      containers: [{ name: 'c', ports: [{ name: 'http', containerPort: options.port ?? 8080 }] }],
      ...options.spec,
    },
    status: {
      phase: options.phase ?? 'Running',
      podIP: options.ip ?? `10.0.${index >> 8}.${index & 255}`,
      conditions: [{ type: 'Ready', status: options.ready === false ? 'False' : 'True' }],
    },
  }) as unknown as PodObject;

async function worldOf(service: ServiceObject, pods: readonly PodObject[]) {
  const world = new SmallWorld(KINDS);
  world.create(service);
  for (const pod of pods) world.create(pod);
  world.deliver();
  const [driver] = world.run(controller);
  await world.settle();
  const slices = () => world.all<SliceObject>('EndpointSlice');
  const endpoints = () => slices().flatMap((slice) => slice.endpoints ?? []);
  return { world, driver, slices, endpoints, legacy: () => world.all<EndpointsObject>('Endpoints')[0] };
}
const ready = (endpoints: readonly Endpoint[]) =>
  endpoints
    .filter(({ conditions }) => conditions?.ready)
    .map(({ targetRef }) => targetRef?.name)
    .sort();

t.test('pods behind a Service', async (t) => {
  const pods = [
    podOf(1),
    podOf(2, { ready: false }),
    podOf(3, { phase: 'Succeeded' }),
    podOf(4, { ip: '' }),
    podOf(5, { port: 9090 }),
    podOf(6, { spec: { hostname: 'six', subdomain: 'web' } }),
  ];
  const { slices, endpoints, legacy } = await worldOf(serviceOf({}, { team: 'a' }), pods);
  t.strictSame(ready(endpoints()), ['p1', 'p5', 'p6']);
  t.strictSame(
    slices()
      .map(({ ports }) => ports?.[0]?.port)
      .sort(),
    [8080, 9090],
    'who names the port otherwise stands in a slice of his own',
  );
  t.match(slices()[0], {
    addressType: 'IPv4',
    metadata: {
      labels: { team: 'a', 'kubernetes.io/service-name': 'web' },
      ownerReferences: [{ kind: 'Service', uid: 'web', controller: true }],
    },
  });
  t.match(
    endpoints().find(({ targetRef }) => targetRef?.name === 'p2'),
    { conditions: { ready: false, serving: false, terminating: false } },
  );
  t.equal(endpoints().find(({ targetRef }) => targetRef?.name === 'p6')?.hostname, 'six');
  t.match(legacy()?.subsets?.[0], {
    addresses: [{ ip: '10.0.0.1' }, { ip: '10.0.0.6' }],
    notReadyAddresses: [{ ip: '10.0.0.2' }],
    ports: [{ name: 'http', port: 8080 }],
  });
});

t.test('Services of other kinds', async (t) => {
  t.strictSame(
    (await worldOf(serviceOf({ selector: undefined }), [podOf(1)])).slices(),
    [],
    'without a selector, somebody else writes them',
  );
  t.strictSame((await worldOf(serviceOf({ type: 'ExternalName' }), [podOf(1)])).slices(), []);
  const headless = await worldOf(serviceOf({ clusterIP: 'None' }), []);
  t.match(
    headless.slices(),
    [{ endpoints: [], metadata: { labels: { 'service.kubernetes.io/headless': '' } } }],
    'one empty slice says: nobody',
  );
  const early = await worldOf(serviceOf({ publishNotReadyAddresses: true }), [podOf(1, { ready: false })]);
  t.strictSame(ready(early.endpoints()), ['p1']);
});

t.test('many pods: slices of a hundred, and a change touches one', async (t) => {
  const { world, slices, endpoints, legacy } = await worldOf(
    serviceOf(),
    Array.from({ length: 1_050 }, (_, index) => podOf(index)),
  );
  t.equal(slices().length, 11);
  t.ok(slices().every((slice) => (slice.endpoints ?? []).length <= 100));
  t.equal(legacy()?.subsets?.[0]?.addresses?.length, 1_000, 'the old kind holds a thousand');
  const writes = () => world.log.filter((line) => line.includes('endpointslices')).length;
  const before = writes();
  world.delete(podOf(0));
  await world.settle();
  t.equal(writes(), before + 1);
  world.create(podOf(5_000));
  await world.settle();
  t.equal(writes(), before + 2, 'the newcomer takes the free place');
  t.equal(slices().length, 11);
  t.equal(endpoints().length, 1_050);
});

t.test('whatever comes and goes, whenever the controller dies: exactly the pods there are, and rest', async () => {
  const step = fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        kind: fc.constant('add' as const),
        index: fc.nat(400),
        ready: fc.boolean(),
        port: fc.constantFrom(80, 81),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constantFrom('remove' as const, 'flip' as const),
        index: fc.nat(400),
        ready: fc.boolean(),
        port: fc.constant(80),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constantFrom('break' as const, 'kill' as const),
        index: fc.nat(400),
        ready: fc.boolean(),
        port: fc.constant(80),
      }),
    },
  );
  await fc.assert(
    fc.asyncProperty(
      fc.nat(230),
      fc.array(step, { maxLength: 20 }),
      fc.infiniteStream(fc.nat(1000)),
      async (first, steps, choices) => {
        const pick = (count: number) => (choices.next().value as number) % Math.max(1, count);
        const { world, driver, endpoints, slices, legacy } = await worldOf(
          serviceOf(),
          Array.from({ length: first }, (_, index) => podOf(index)),
        );
        for (const { kind, index, ready: isReady, port } of steps) {
          const pod = podOf(index, { ready: isReady, port });
          const standing = world.standing<PodObject>(pod);
          if (kind === 'add' && !standing) world.create(pod);
          else if (kind === 'remove' && standing) world.delete(standing);
          else if (kind === 'flip' && standing)
            world.edit(standing, (it) => void (it.status = pod.status as NonNullable<PodObject['status']>));
          else if (kind === 'break' && slices()[0])
            world.edit(slices()[0] as SliceObject, (it) => void (it.endpoints = []));
          else if (kind === 'kill') {
            world.beforeWrite = () => {
              world.beforeWrite = () => undefined;
              throw new Killed();
            };
          }
          for (let times = pick(3); times > 0; times--) await driver?.step(pick);
        }
        await world.settle({ pick });
        const pods = world.all<PodObject>('Pod');
        const should = pods.map(({ metadata }) => metadata.name).sort();
        const stand = endpoints()
          .map(({ targetRef }) => targetRef?.name)
          .sort();
        if (JSON.stringify(should) !== JSON.stringify(stand))
          throw new Error(`${stand.length} endpoints for ${should.length} pods`);
        const shouldBeReady = pods
          .filter(({ status }) => status?.conditions?.[0]?.status === 'True')
          .map(({ metadata }) => metadata.name)
          .sort();
        if (JSON.stringify(shouldBeReady) !== JSON.stringify(ready(endpoints())))
          throw new Error('the wrong ones are ready');
        if (slices().some((slice) => (slice.endpoints ?? []).length > 100)) throw new Error('a slice holds too many');
        const listed = (legacy()?.subsets ?? []).flatMap(({ addresses = [], notReadyAddresses = [] }) => [
          ...addresses,
          ...notReadyAddresses,
        ]);
        if (listed.length !== pods.length) throw new Error('Endpoints differ');
        const sequence = world.sequence;
        driver?.restart();
        await world.settle({ pick });
        if (world.sequence !== sequence) throw new Error('something was written though nothing had changed');
      },
    ),
    { numRuns: 60 },
  );
});
