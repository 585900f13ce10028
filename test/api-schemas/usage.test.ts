/** What objects use of a quota, as Kubernetes counts it. */
import t from 'tap';
import { podLimits, podRequests } from '../../api-schemas/pod-resources.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Container, PodSpec } from '../../api-schemas/types/core-v1.ts';
import { usageOf } from '../../api-schemas/usage.ts';

const UNIT = 1_000_000_000n;
const MIB = 1024n * 1024n * UNIT;
const PODS = { group: '', resource: 'pods' };
const container = (requests: object, limits: object = {}, more: object = {}): Container =>
  ({ name: 'c', image: 'i', resources: { requests, limits }, ...more }) as Container;
const podOf = (spec: object, status: object = {}): ApiObject => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: 'p' },
  spec,
  status,
});

t.test(
  'a pod asks for its containers together, or for its greatest init container, and for what its runtime takes',
  async (t) => {
    const spec = {
      initContainers: [
        container({ cpu: '3' }),
        container({ cpu: '500m', memory: '10Mi' }, {}, { restartPolicy: 'Always' }),
        container({ memory: '100Mi' }),
      ],
      containers: [container({ cpu: '1' }, { memory: '20Mi' }), container({ cpu: '1', memory: '5Mi' })],
      overhead: { cpu: '250m' },
    } as PodSpec;
    t.strictSame(podRequests(spec), { cpu: (13n * UNIT) / 4n, memory: 110n * MIB });
    t.strictSame(podLimits(spec), { memory: 20n * MIB }, 'the overhead counts where there is a limit');
  },
);

t.test('under all the names that a quota may have for it', async (t) => {
  const spec = {
    containers: [
      container(
        { cpu: '1', 'example.com/dongle': '2', 'hugepages-2Mi': '4Mi' },
        { cpu: '2', 'ephemeral-storage': '1Mi' },
      ),
    ],
  };
  t.strictSame(usageOf(PODS, podOf(spec)), {
    'count/pods': UNIT,
    pods: UNIT,
    cpu: UNIT,
    'requests.cpu': UNIT,
    'limits.cpu': 2n * UNIT,
    'requests.example.com/dongle': 2n * UNIT,
    'hugepages-2Mi': 4n * MIB,
    'requests.hugepages-2Mi': 4n * MIB,
    'ephemeral-storage': MIB,
    'requests.ephemeral-storage': MIB,
    'limits.ephemeral-storage': MIB,
  });
  t.strictSame(
    usageOf(PODS, podOf(spec, { phase: 'Failed' })),
    { 'count/pods': UNIT },
    'once it has ended, only that it is',
  );
  t.strictSame(usageOf({ group: 'apps', resource: 'deployments' }, podOf({})), { 'count/deployments.apps': UNIT });
  const service = { apiVersion: 'v1', kind: 'Service', metadata: { name: 's' } };
  const ports = [{ port: 1 }, { port: 2 }];
  const SERVICES = { group: '', resource: 'services' };
  const counted = { 'count/services': UNIT, services: UNIT };
  t.strictSame(usageOf(SERVICES, { ...service, spec: { type: 'LoadBalancer', ports } }), {
    ...counted,
    'services.nodeports': 2n * UNIT,
    'services.loadbalancers': UNIT,
  });
  const spare = { type: 'LoadBalancer', ports, allocateLoadBalancerNodePorts: false };
  t.strictSame(usageOf(SERVICES, { ...service, spec: spare }), { ...counted, 'services.loadbalancers': UNIT });
});
