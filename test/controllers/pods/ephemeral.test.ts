/** Containers added to a pod that is there: when they start, what they are to the rest of the pod, and how they end. */
import t from 'tap';
import type { Container, EphemeralContainer, PodSpec } from '../../../api-schemas/types/core-v1.ts';
import { Model, podWith } from './model.ts';

const main: Container = { name: 'main', image: 'app:1' };
const side: Container = { name: 'side', image: 'side:1' };
const looks: EphemeralContainer = { name: 'looks', image: 'tools:1' };

const starts = (model: Model): string[] =>
  model.plan().actions.flatMap((action) => (action.verb === 'start-container' ? [action.container] : []));
const status = (model: Model) => model.pod?.status?.ephemeralContainerStatuses?.[0];
const settled = (spec: PodSpec): Model => {
  const model = new Model(podWith(spec));
  model.settle();
  return model;
};
const add = (model: Model, ...containers: EphemeralContainer[]): void => {
  for (const { image = '' } of containers) model.images.add(image);
  if (model.pod?.spec) model.pod.spec.ephemeralContainers = containers;
};

t.test('it runs beside the pod, once, and nothing hangs on it', async (t) => {
  for (const containers of [[main], [main, side]]) {
    const model = settled({ containers });
    add(model, looks);
    t.strictSame(starts(model), ['looks']);
    t.match(model.plan().status, {
      ephemeralContainerStatuses: [{ state: { waiting: { reason: 'ContainerCreating' } } }],
    });
    model.settle();
    t.match(status(model), { ready: false, started: false, restartCount: 0, state: { running: {} } });
    model.exit(model.running('looks')[0]?.id ?? '', 3);
    model.settle(60_000);
    t.match(status(model), { state: { terminated: { exitCode: 3 } } });
    t.strictSame(starts(model), [], 'it is not started again');
    t.equal(model.pod?.status?.phase, 'Running');
    t.equal(model.pod?.status?.conditions?.find(({ type }) => type === 'Ready')?.status, 'True');
    t.equal(model.running('main').length, 1);
  }
});

t.test('it waits for what it joins', async (t) => {
  const model = settled({ containers: [main], restartPolicy: 'Always' });
  model.exit(model.running('main')[0]?.id ?? '', 1);
  model.settle(1_000);
  model.exit(model.running('main')[0]?.id ?? '', 1);
  add(model, looks);
  t.notOk(starts(model).includes('looks'), 'the network of the pod is that of its container');
  model.settle(60_000);
  t.match(status(model), { state: { running: {} } });

  const two = settled({ containers: [main, side], restartPolicy: 'Never' });
  two.exit(two.running('side')[0]?.id ?? '', 0);
  add(two, { ...looks, targetContainerName: 'side' });
  two.settle(10_000);
  t.match(status(two), { state: { waiting: {} } }, 'a container that has ended has no processes to look at');
});

t.test('it ends with its pod', async (t) => {
  const model = settled({ containers: [main], restartPolicy: 'Never' });
  add(model, looks);
  model.settle();
  model.exit(model.running('main')[0]?.id ?? '', 0);
  model.settle(60_000);
  t.equal(model.pod?.status?.phase, 'Succeeded');
  t.equal(model.running().length, 0);
});
