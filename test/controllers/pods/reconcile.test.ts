/** The plans for one pod: what is done in which situation, what the status says, and what holds whatever happens. */
import fc from 'fast-check';
import t from 'tap';
import type { Container, Pod, PodSpec } from '../../../api-schemas/types/core-v1.ts';
import { CONTAINER_LABEL, roleOf } from '../../../controllers/pods/labels.ts';
import { slotsOf } from '../../../controllers/pods/pod-shape.ts';
import { sameJson } from '../../../sdk/same-json.ts';
import { Model, podWith } from './model.ts';

const main: Container = { name: 'main', image: 'app:1' };
const side: Container = { name: 'side', image: 'side:1' };
const verbs = (model: Model): string[] =>
  model
    .plan()
    .actions.map((action) =>
      'signal' in action
        ? `${action.verb} ${action.signal}`
        : 'container' in action
          ? `${action.verb} ${action.container}`
          : action.verb,
    );
const settled = (spec: PodSpec, change: (model: Model) => void = () => undefined): Model => {
  const model = new Model(podWith(spec));
  change(model);
  model.settle(60_000);
  return model;
};
const status = (model: Model, name = 'main') =>
  [...(model.pod?.status?.containerStatuses ?? []), ...(model.pod?.status?.initContainerStatuses ?? [])].find(
    (found) => found.name === name,
  );
const condition = (model: Model, type: string) =>
  model.pod?.status?.conditions?.find((found) => found.type === type)?.status;

t.test('a pod of one container', async (t) => {
  const model = new Model(podWith({ containers: [main] }));
  t.strictSame(verbs(model), ['start-container main']);
  t.match(model.plan().status, {
    phase: 'Pending',
    containerStatuses: [{ state: { waiting: { reason: 'ContainerCreating' } }, ready: false, restartCount: 0 }],
  });
  model.settle();
  t.match(model.pod?.status, {
    phase: 'Running',
    podIP: '10.64.0.2',
    hostIP: '192.0.2.1',
    containerStatuses: [{ ready: true, started: true, containerID: 'docker://id-0' }],
  });
  for (const type of ['Ready', 'ContainersReady', 'Initialized', 'PodScheduled', 'PodReadyToStartContainers'])
    t.equal(condition(model, type), 'True', type);
  t.strictSame(verbs(model), [], 'then nothing is left to do');
});

t.test('several containers share a sandbox, which comes first', async (t) => {
  const model = new Model(podWith({ initContainers: [{ name: 'init', image: 'i:1' }], containers: [main, side] }));
  t.strictSame(verbs(model), ['start-container POD']);
  model.turn();
  t.strictSame(verbs(model), ['start-container init']);
  model.turn();
  t.strictSame(verbs(model), []);
  t.match(model.plan().status, {
    phase: 'Pending',
    containerStatuses: [{ state: { waiting: { reason: 'PodInitializing' } } }, {}],
  });
  model.exit(model.running('init')[0]?.id ?? '', 0);
  t.strictSame(verbs(model), ['start-container main', 'start-container side']);
  model.settle();
  t.equal(model.pod?.status?.phase, 'Running');
  t.match(status(model, 'init'), { ready: true, state: { terminated: { exitCode: 0, reason: 'Completed' } } });
  const sandbox = model.containers.find((container) => roleOf(container) === 'sandbox');
  model.exit(sandbox?.id ?? '', 137);
  t.strictSame(
    verbs(model),
    ['signal-container kill', 'signal-container kill'],
    'without their network they are ended',
  );
  model.settle();
  t.equal(model.running().length, 3, 'and all run again');
  t.equal(model.starts.filter(({ container }) => container === 'init').length, 1, 'init containers are not run again');
});

t.test('how a container ends decides what comes next', async (t) => {
  for (const [policy, exitCode, phase, restarts] of [
    ['Always', 0, 'Running', 1],
    ['Always', 3, 'Running', 1],
    ['OnFailure', 0, 'Succeeded', 0],
    ['OnFailure', 3, 'Running', 1],
    ['Never', 0, 'Succeeded', 0],
    ['Never', 3, 'Failed', 0],
  ] as const) {
    const model = settled({ containers: [main], restartPolicy: policy });
    model.exit(model.running()[0]?.id ?? '', exitCode);
    model.settle(5_000);
    t.match(
      { phase: model.pod?.status?.phase, restarts: status(model)?.restartCount },
      { phase, restarts },
      `${policy}, exit code ${exitCode}`,
    );
    if (phase === 'Succeeded')
      t.match(
        model.pod?.status?.conditions?.find(({ type }) => type === 'Ready'),
        { status: 'False', reason: 'PodCompleted' },
      );
  }
});

t.test('crashes are answered later and later, up to five minutes, and forgiven after ten', async (t) => {
  const model = settled({ containers: [main] });
  const waits: number[] = [];
  for (let crash = 0; crash < 8; crash++) {
    const diedAtMs = model.nowMs;
    model.exit(model.running()[0]?.id ?? '', 1);
    model.turn();
    if (crash > 0) t.match(status(model)?.state, { waiting: { reason: 'CrashLoopBackOff' } });
    model.settle();
    waits.push(((model.starts.at(-1)?.atMs ?? 0) - diedAtMs) / 1000);
  }
  t.strictSame(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
  t.equal(status(model)?.restartCount, 8);
  t.match(status(model)?.lastState, { terminated: { exitCode: 1, reason: 'Error' } });
  t.ok(model.containers.length <= 2, 'one dead container is kept for its log');
  model.nowMs += 600_000;
  const diedAtMs = model.nowMs;
  model.exit(model.running()[0]?.id ?? '', 1);
  model.settle(1_000);
  t.equal(model.starts.at(-1)?.atMs, diedAtMs, 'a container that ran ten minutes starts again at once');
});

t.test('what is taken away behind the agent is put back, or reported', async (t) => {
  const model = settled({ containers: [main] });
  model.containers = [];
  model.settle();
  t.match(status(model), {
    restartCount: 1,
    ready: true,
    lastState: { terminated: { exitCode: 137, reason: 'ContainerStatusUnknown' } },
  });
  model.exit(model.running()[0]?.id ?? '', 1);
  model.settle();
  const newest = model.running()[0]?.id ?? '';
  model.remove(newest);
  model.settle();
  t.equal(status(model)?.restartCount, 3, 'an older container that is still there does not hide the loss');
  const made = settled({ containers: [main] });
  made.exit(made.running()[0]?.id ?? '', 1);
  made.settle();
  // As when an engine that ended took what it had only made with it.
  const [, second] = made.containers;
  Object.assign(second!, { state: 'created', startedAtMs: undefined });
  made.turn(Infinity);
  made.containers = made.containers.filter((container) => container !== second);
  Object.assign(made.pod!.status!.containerStatuses![0]!, { containerID: undefined });
  made.settle();
  t.equal(made.running()[0]?.labels['reckon.dev/attempt'], '1', 'no attempt that has ended is started again');
  const once = settled({ containers: [main], restartPolicy: 'Never' });
  once.containers = [];
  once.settle();
  t.match(once.pod?.status, {
    phase: 'Failed',
    containerStatuses: [{ state: { terminated: { reason: 'ContainerStatusUnknown' } } }],
  });
});

t.test('what the engine does not tell of stays as it was', async (t) => {
  const model = settled({ containers: [main, side] });
  const before = status(model);
  const [stuck] = model.running('main');
  model.hang(stuck!);
  model.exit(stuck!.id, 1);
  model.exit(model.running('side')[0]?.id ?? '', 1);
  model.settle();
  t.strictSame(status(model), before, 'nothing is said that is not known');
  t.equal(model.running('main').length, 0, 'and none is started in its place');
  t.match([status(model, 'side')?.restartCount, status(model, 'side')?.ready], [1, true], 'others go on');
  model.hung.clear();
  model.settle();
  t.match(status(model), { restartCount: 1, ready: true, lastState: { terminated: { exitCode: 1 } } });

  const job = settled({ containers: [main], restartPolicy: 'Never' });
  // An agent that has just started knows of it only what the engine's list says.
  const [only] = job.running();
  job.exit(only!.id, 3);
  job.hang(only!);
  Object.assign(job.hung.get(only!.id)!, { exitCode: 0, finishedAtMs: undefined });
  job.settle();
  t.equal(job.pod?.status?.phase, 'Running', 'that it has ended is not how it ended');
  job.hung.clear();
  job.settle();
  t.match(job.pod?.status, { phase: 'Failed', containerStatuses: [{ state: { terminated: { exitCode: 3 } } }] });
});

t.test('images', async (t) => {
  const model = new Model(podWith({ containers: [main] }));
  model.images.clear();
  t.strictSame(verbs(model), ['pull-image main']);
  model.imageError = 'no such registry';
  model.turn();
  t.match(model.plan().status, {
    containerStatuses: [{ state: { waiting: { reason: 'ErrImagePull', message: 'no such registry' } } }],
  });
  model.nowMs += 6_000;
  model.turn();
  t.match(status(model)?.state, { waiting: { reason: 'ImagePullBackOff', message: /no such registry/ } });
  model.nowMs += 10_000;
  t.strictSame(verbs(model), ['pull-image main'], 'it is tried again');
  t.match(model.plan().status, {
    containerStatuses: [{ state: { waiting: { reason: 'ImagePullBackOff', message: /no such registry/ } } }],
  });
  model.imageError = undefined;
  model.settle();
  t.equal(model.pod?.status?.phase, 'Running');
  const never = settled({ containers: [{ ...main, imagePullPolicy: 'Never' }] }, (other) => other.images.clear());
  t.match(status(never)?.state, { waiting: { reason: 'ErrImageNeverPull' } });
  const bad = settled({ containers: [{ ...main, image: 'Not An Image' }] });
  t.match(status(bad)?.state, { waiting: { reason: 'InvalidImageName' } });
  const always = new Model(podWith({ containers: [{ ...main, imagePullPolicy: 'Always' }] }));
  t.strictSame(verbs(always), ['pull-image main'], 'Always pulls though it is there');
  const missing = settled({ containers: [main] }, (other) => (other.configError = 'configmap "x" not found'));
  t.match(status(missing)?.state, {
    waiting: { reason: 'CreateContainerConfigError', message: 'configmap "x" not found' },
  });
});

t.test('probes', async (t) => {
  const probe = { tcpSocket: { port: 80 }, periodSeconds: 10, failureThreshold: 3 };
  const ready = settled({ containers: [{ ...main, readinessProbe: probe }] }, (model) => (model.healthy = false));
  t.match([condition(ready, 'Ready'), status(ready)?.ready, status(ready)?.started], ['False', false, true]);
  ready.healthy = true;
  ready.settle(30_000);
  t.equal(condition(ready, 'Ready'), 'True');
  ready.forgetAgent();
  ready.prepared = true;
  t.match(
    ready.plan().status,
    { conditions: [{}, {}, { type: 'Ready', status: 'True' }, {}, {}] },
    'a new agent does not take readiness back',
  );

  const live = settled({ containers: [{ ...main, livenessProbe: probe }] });
  live.healthy = false;
  const fellIllAtMs = live.nowMs;
  while (live.starts.length < 2 && live.nowMs < fellIllAtMs + 100_000) {
    const { requeueAfterMs = 1_000, actions } = live.turn();
    if (actions.length === 0) live.nowMs += requeueAfterMs;
  }
  t.equal(live.starts.length, 2, 'a container that fails its liveness probe is started again');
  t.ok(live.events.includes('Killing: Container main failed liveness probe, will be restarted'));
  t.ok(live.starts[1] !== undefined && live.starts[1].atMs - fellIllAtMs >= 20_000, 'not before its threshold');

  const slow = new Model(
    podWith({ containers: [{ ...main, startupProbe: { ...probe, failureThreshold: 30 }, livenessProbe: probe }] }),
  );
  slow.healthy = false;
  slow.settle(200_000);
  t.equal(slow.starts.length, 1, 'liveness waits for the startup probe');
  t.equal(status(slow)?.started, false);
});

t.test('deletion', async (t) => {
  const model = settled({ containers: [{ ...main, lifecycle: { preStop: { exec: { command: ['true'] } } } }] });
  model.stubborn = true;
  model.markDeleted(30);
  t.strictSame(verbs(model), ['event', 'run-hook main']);
  model.turn();
  t.strictSame(verbs(model), ['signal-container stop']);
  model.turn();
  t.strictSame(verbs(model), []);
  model.nowMs += 29_000;
  t.strictSame(verbs(model), [], 'it has its whole grace period');
  model.nowMs += 1_000;
  t.strictSame(verbs(model), ['signal-container kill']);
  model.turn();
  t.strictSame(verbs(model), [], 'how it ended is reported first');
  model.turn();
  t.match(status(model)?.state, { terminated: { exitCode: 137 } });
  t.strictSame(verbs(model), ['remove-container main']);
  model.turn();
  t.strictSame(verbs(model), ['remove-data']);
  model.turn();
  t.match(model.plan().actions, [{ verb: 'delete', gracePeriodSeconds: 0, uid: model.pod?.metadata.uid }]);
  const now = settled({ containers: [main] });
  now.markDeleted(0);
  t.strictSame(verbs(now), ['event', 'signal-container kill'], 'without grace it is killed at once');
  const finalized = settled({ containers: [main] });
  finalized.markDeleted(0);
  (finalized.pod as Pod).metadata.finalizers = ['example.com/hold'];
  for (let turn = 0; turn < 10; turn++) {
    const plan = finalized.turn();
    t.notOk(plan.actions.some(({ verb }) => verb === 'delete'));
  }
  t.strictSame(verbs(finalized), [], 'a pod that a finalizer holds waits');
  t.strictSame(finalized.containers, []);
});

t.test('a pod that has gone, and one that overstays', async (t) => {
  const gone = settled({ containers: [main, side] });
  gone.pod = undefined;
  gone.settle();
  t.strictSame([gone.containers, gone.hasData], [[], false], 'nothing of it is left');
  const deaf = settled({ containers: [main] });
  deaf.stubborn = true;
  deaf.pod = undefined;
  deaf.settle();
  t.strictSame(deaf.containers, [], 'nor of one whose containers heed no signal');
  const late = settled({ containers: [main], activeDeadlineSeconds: 100 });
  late.settle(200_000);
  late.settle(200_000);
  t.match(late.pod?.status, { phase: 'Failed', reason: 'DeadlineExceeded' });
  t.strictSame(late.running(), []);
  const changed = settled({ containers: [main] });
  changed.pod = {
    ...(changed.pod as Pod),
    spec: { ...podWith({ containers: [{ ...main, image: 'app:2' }] }).spec },
  } as Pod;
  changed.images.add('app:2');
  changed.settle();
  t.match(
    [changed.running().map(({ image }) => image), status(changed)?.restartCount],
    [['app:2'], 1],
    'a new image is a new container',
  );
});

// --- Whatever happens -------------------------------------------------------------------------------------------------------------------------------------------

const anyContainer = (name: string): fc.Arbitrary<Container> =>
  fc.record(
    {
      name: fc.constant(name),
      image: fc.constantFrom('app:1', 'app:2'),
      readinessProbe: fc.constant({ tcpSocket: { port: 80 }, periodSeconds: 5 }),
      livenessProbe: fc.constant({ tcpSocket: { port: 80 }, periodSeconds: 5, failureThreshold: 2 }),
      startupProbe: fc.constant({ tcpSocket: { port: 80 }, periodSeconds: 1 }),
      lifecycle: fc.constant({ preStop: { exec: { command: ['true'] } }, postStart: { exec: { command: ['true'] } } }),
    },
    { requiredKeys: ['name', 'image'] },
  );

const anyInit = fc.constantFrom<Container[]>(
  [],
  [{ name: 'init', image: 'i:1' }],
  [{ name: 'helper', image: 'h:1', restartPolicy: 'Always' }],
);

const anySpec: fc.Arbitrary<PodSpec> = fc.record(
  {
    containers: fc
      .oneof(fc.tuple(anyContainer('main')), fc.tuple(anyContainer('main'), anyContainer('side')))
      .map((list) => [...list]),
    initContainers: anyInit,
    restartPolicy: fc.constantFrom('Always' as const, 'OnFailure' as const, 'Never' as const),
    volumes: fc.constant([{ name: 'scratch', emptyDir: {} }]),
  },
  { requiredKeys: ['containers', 'restartPolicy'] },
);

type Happening = {
  what: 'turn' | 'cut-off' | 'exit' | 'remove' | 'time' | 'agent' | 'sick' | 'well' | 'hang' | 'tell';
  which: number;
  amount: number;
};
const anyHappening: fc.Arbitrary<Happening> = fc.record({
  what: fc.constantFrom(
    'turn',
    'turn',
    'turn',
    'cut-off',
    'exit',
    'remove',
    'time',
    'agent',
    'sick',
    'well',
    'hang',
    'tell',
  ),
  which: fc.nat(5),
  amount: fc.nat(40_000),
});

function happen(model: Model, { what, which, amount }: Happening): void {
  const chosen = model.containers[which % Math.max(1, model.containers.length)];
  switch (what) {
    case 'turn':
      model.turn();
      return;
    case 'cut-off':
      model.turn(which);
      model.forgetAgent();
      return;
    case 'exit':
      if (chosen !== undefined) model.exit(chosen.id, amount % 3);
      return;
    case 'remove':
      if (chosen !== undefined && !model.hung.has(chosen.id)) model.remove(chosen.id);
      return;
    case 'hang':
      if (chosen !== undefined) model.hang(chosen);
      return;
    case 'tell':
      model.hung.clear();
      return;
    case 'time':
      model.nowMs += amount;
      return;
    case 'agent':
      model.forgetAgent();
      return;
    case 'sick':
    case 'well':
      model.healthy = what === 'well';
      return;
    default:
      what satisfies never;
  }
}

function oneInEachSlot(model: Model): boolean {
  const names = model.running().map((container) => container.labels[CONTAINER_LABEL]);
  return (
    new Set(names).size === names.length &&
    new Set(model.containers.map(({ name }) => name)).size === model.containers.length
  );
}

/** Init containers do their work when they run. */
function settleWhole(model: Model): void {
  model.healthy = true;
  model.hung.clear();
  model.settle(400_000);
  for (let round = 0; round < 6 && model.running('init').length > 0; round++) {
    for (const container of model.running('init')) model.exit(container.id, 0);
    model.settle(400_000);
  }
  model.settle(400_000);
}

t.test('it converges, keeps one container in a slot, and leaves nothing', { timeout: 120_000 }, async (t) => {
  let plans = 0;
  const property = fc.property(anySpec, fc.array(anyHappening, { maxLength: 40 }), (spec, happenings) => {
    const model = new Model(podWith(spec));
    for (const happening of happenings) {
      happen(model, happening);
      if (!oneInEachSlot(model)) throw new Error('two containers in one slot');
    }
    settleWhole(model);
    if (!oneInEachSlot(model)) throw new Error('two containers in one slot');
    const again = model.plan();
    plans++;
    const acting = again.actions.filter(({ verb }) => verb !== 'run-probe' && verb !== 'event');
    if (acting.length > 0) throw new Error(`converged, and yet: ${JSON.stringify(acting)}`);
    if (!sameJson(again.status ?? {}, model.pod?.status ?? {})) throw new Error('converged, and yet another status');
    const { phase } = model.pod?.status ?? {};
    if (spec.restartPolicy === 'Always') {
      const missing = slotsOf(model.pod as Pod).filter(
        ({ role, sidecar, name }) => (role === 'container' || sidecar) && model.running(name).length !== 1,
      );
      if (phase !== 'Running' || missing.length > 0)
        throw new Error(`not all run: ${phase} ${JSON.stringify(missing)} ${JSON.stringify(model.pod?.status)}`);
      if (condition(model, 'Ready') !== 'True') throw new Error('all run and are well, and the pod is not ready');
    } else if (phase === 'Failed' || phase === 'Succeeded') {
      if (model.running().length > 0) throw new Error('a pod that has ended still runs');
    }
    model.markDeleted(30);
    model.settle(120_000);
    if (model.pod !== undefined || model.containers.length > 0 || model.hasData) throw new Error('something is left');
  });
  fc.assert(property, { numRuns: Number(process.env['PROPERTY_RUNS'] ?? 300) });
  t.ok(plans >= 300, `${plans} pods and histories were tried`);
});
