/** What pods and Ingresses get from classes: importance, overhead and placement of their runtime, the default class; and what is refused about it. */
import t from 'tap';
import { pod, startApi, type Json } from '../api.ts';

t.test('classes', async (t) => {
  const api = await startApi(t);
  const PODS = '/api/v1/namespaces/default/pods';
  const create = async (name: string, spec: object): Promise<Json> => (await api.post(PODS, pod(name, spec))).body;

  t.test('PriorityClasses', async (t) => {
    const PATH = '/apis/scheduling.k8s.io/v1/priorityclasses';
    const priorityClass = (name: string, value: number, more: object = {}): Json => ({
      apiVersion: 'scheduling.k8s.io/v1',
      kind: 'PriorityClass',
      metadata: { name },
      value,
      ...more,
    });
    t.match((await create('plain', {})).spec, { priority: 0, preemptionPolicy: 'PreemptLowerPriority' });
    t.match((await create('system', { priorityClassName: 'system-node-critical' })).spec, { priority: 2000001000 });
    t.equal(
      (await create('stray', { priorityClassName: 'nobody' })).message,
      'pods "stray" is forbidden: no PriorityClass with name nobody was found',
    );
    await api.post(PATH, priorityClass('high', 1000, { preemptionPolicy: 'Never' }));
    t.match((await create('high', { priorityClassName: 'high' })).spec, { priority: 1000, preemptionPolicy: 'Never' });
    t.match(
      (await create('liar', { priorityClassName: 'high', priority: 7 })).message,
      /the integer value of priority \(7\) must not be provided in pod spec; priority admission controller computed 1000/,
    );
    await api.post(PATH, priorityClass('usual', 10, { globalDefault: true }));
    t.match((await create('usual', {})).spec, { priority: 10, priorityClassName: 'usual' });
    t.match(
      (await api.post(PATH, priorityClass('other', 11, { globalDefault: true }))).body.message,
      /PriorityClass usual is already marked as default. Only one default can exist/,
    );
    t.match(
      (await api.post(PATH, priorityClass('huge', 1_000_000_001))).body.message,
      /value: Forbidden: maximum allowed value of a user defined priority is 1000000000/,
    );
    t.match((await api.post(PATH, priorityClass('system-mine', 1))).body.message, /reserved for system use only/);
    t.match(await api.kubectl('get priorityclass'), /system-cluster-critical +2000000000 +false/);
  });

  t.test('RuntimeClasses', async (t) => {
    await api.post('/apis/node.k8s.io/v1/runtimeclasses', {
      apiVersion: 'node.k8s.io/v1',
      kind: 'RuntimeClass',
      metadata: { name: 'boxed' },
      handler: 'boxed',
      overhead: { podFixed: { cpu: '250m', memory: '64Mi' } },
      scheduling: { nodeSelector: { boxes: 'yes' }, tolerations: [{ key: 'boxed', operator: 'Exists' }] },
    });
    const { spec } = await create('boxed', { runtimeClassName: 'boxed', nodeSelector: { disk: 'ssd' } });
    t.strictSame(spec.overhead, { cpu: '250m', memory: '64Mi' });
    t.strictSame(spec.nodeSelector, { disk: 'ssd', boxes: 'yes' });
    t.ok(spec.tolerations.some(({ key }: Json) => key === 'boxed'));
    const refusals = [
      ['a', { runtimeClassName: 'none' }, /pod rejected: RuntimeClass "none" not found/],
      ['b', { overhead: { cpu: '1' } }, /Pod Overhead set without corresponding RuntimeClass defined Overhead/],
      ['c', { runtimeClassName: 'boxed', overhead: { cpu: '1' } }, /Overhead doesn't match RuntimeClass's/],
      [
        'd',
        { runtimeClassName: 'boxed', nodeSelector: { boxes: 'no' } },
        /conflict: runtimeClass.scheduling.nodeSelector/,
      ],
    ] as const;
    for (const [name, given, says] of refusals) t.match((await create(name, given)).message, says);
  });

  t.test('IngressClasses', async (t) => {
    const ingressClass = (name: string, isDefault: boolean): Json => ({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'IngressClass',
      metadata: {
        name,
        ...(isDefault && { annotations: { 'ingressclass.kubernetes.io/is-default-class': 'true' } }),
      },
      spec: { controller: 'example.com/ingress' },
    });
    const ingress = (name: string, metadata: object = {}, spec: object = {}): Json => ({
      apiVersion: 'networking.k8s.io/v1',
      kind: 'Ingress',
      metadata: { name, ...metadata },
      spec: { defaultBackend: { service: { name: 'web', port: { number: 80 } } }, ...spec },
    });
    const INGRESSES = '/apis/networking.k8s.io/v1/namespaces/default/ingresses';
    const classOf = async (object: Json): Promise<string | undefined> =>
      (await api.post(INGRESSES, object)).body.spec.ingressClassName;
    t.equal(await classOf(ingress('before')), undefined);
    await api.post('/apis/networking.k8s.io/v1/ingressclasses', ingressClass('plain', false));
    await api.post('/apis/networking.k8s.io/v1/ingressclasses', ingressClass('usual', true));
    t.equal(await classOf(ingress('usual')), 'usual');
    t.equal(await classOf(ingress('named', {}, { ingressClassName: 'plain' })), 'plain');
    t.equal(await classOf(ingress('old', { annotations: { 'kubernetes.io/ingress.class': 'nginx' } })), undefined);
  });
});
