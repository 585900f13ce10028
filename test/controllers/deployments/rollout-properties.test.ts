/**
 * What holds in every rollout, whatever the order in which controllers look and pods come, go and fail.
 */
import fc from 'fast-check';
import t from 'tap';
import { allowance, wantedReplicas } from '../../../controllers/deployments/surge.ts';
import { runs } from '../../harness/runs.ts';
import { SimulatedRollout } from './simulated-rollout.ts';

t.setTimeout(600_000);

const RUNS = { numRuns: runs(40) };

const intOrPercent = fc.oneof(
  fc.integer({ min: 0, max: 4 }),
  fc.integer({ min: 0, max: 100 }).map((percent) => `${percent}%`),
);
const rolling = fc.record({
  replicas: fc.integer({ min: 1, max: 9 }),
  maxSurge: intOrPercent,
  maxUnavailable: intOrPercent,
});

/** One thing that happens; `pick` chooses among the pods or sets there are. */
type Happening = { readonly kind: string; readonly pick: number };
const happening = (...kinds: string[]): fc.Arbitrary<Happening> =>
  fc.record({ kind: fc.constantFrom(...kinds), pick: fc.nat({ max: 1000 }) });

const CALM = ['deployment', 'deployment', 'sets', 'sets', 'set', 'ready', 'ready', 'ready', 'finish', 'image', 'time'];
const ROUGH = [...CALM, 'unready', 'fail', 'remove', 'scale', 'pause', 'resume'];

function happen(world: SimulatedRollout, { kind, pick }: Happening): void {
  const pods = [...world.pods.keys()];
  const pod = pods[pick % Math.max(1, pods.length)] ?? '';
  const sets = [...world.sets.keys()];
  switch (kind) {
    case 'deployment':
      return void world.stepDeployment();
    case 'sets':
      return sets.forEach((name) => world.stepSet(name));
    case 'set':
      return sets.length > 0 ? void world.stepSet(sets[pick % sets.length] ?? '') : undefined;
    case 'ready':
      return world.pods.get(pod)?.metadata.deletionTimestamp ? undefined : world.makeReady(pod);
    case 'unready':
      return world.makeUnready(pod);
    case 'fail':
      return world.fail(pod);
    case 'finish':
      return world.finish(pod);
    case 'remove':
      return void world.pods.delete(pod);
    case 'image':
      return world.setImage(`web:${pick % 4}`);
    case 'scale':
      return world.editDeployment((deployment) => (deployment.spec.replicas = pick % 10));
    case 'pause':
      return world.editDeployment((deployment) => (deployment.spec.paused = true));
    case 'resume':
      return world.editDeployment((deployment) => delete deployment.spec.paused);
    case 'time':
      world.nowMs += (pick % 5) * 1000;
      return;
    default:
      throw new Error(`unknown happening ${kind}`);
  }
}

function mustBeConverged(world: SimulatedRollout): void {
  const { deployment } = world;
  const wanted = wantedReplicas(deployment);
  const newest = [...world.pods.values()].filter(
    (pod) =>
      pod.spec.containers[0]?.image === deployment.spec.template.spec?.containers[0]?.image &&
      !pod.metadata.deletionTimestamp &&
      pod.status.phase !== 'Failed',
  );
  if (newest.length !== wanted || world.active.length !== wanted)
    throw new Error(
      `wanted ${wanted}, there are ${world.active.length} pods, ${newest.length} of them new: ${world.log.slice(-12).join('; ')}`,
    );
  if (world.planDeployment().actions.length > 0) throw new Error('converged, but the deployment still plans');
  for (const name of world.sets.keys())
    if (world.planSet(name).actions.length > 0) throw new Error(`converged, but ${name} still plans`);
  const progressing = deployment.status.conditions?.find((condition) => condition.type === 'Progressing');
  if (progressing?.reason !== 'NewReplicaSetAvailable')
    throw new Error(`converged, but the reason is ${progressing?.reason}`);
  if ((deployment.status.updatedReplicas ?? 0) !== wanted || (deployment.status.availableReplicas ?? 0) !== wanted)
    throw new Error('converged, but the status does not say so');
}

t.test(
  'while only templates change, a rolling update keeps within surge and availability at every step, and ends',
  async (t) => {
    let actions = 0;
    fc.assert(
      fc.property(
        rolling,
        fc.array(happening(...CALM), { minLength: 20, maxLength: 120 }),
        ({ replicas, maxSurge, maxUnavailable }, happenings) => {
          const world = new SimulatedRollout({
            replicas,
            strategy: { type: 'RollingUpdate', rollingUpdate: { maxSurge, maxUnavailable } },
          });
          world.settle();
          const { maxSurge: surge, maxUnavailable: unavailable } = allowance(world.deployment);
          world.onAction = (action) => {
            actions++;
            if (world.ready < replicas - unavailable)
              throw new Error(`${action.verb}: ${world.ready} available, at least ${replicas - unavailable} promised`);
            if (world.active.length > replicas + surge)
              throw new Error(`${action.verb}: ${world.active.length} pods, at most ${replicas + surge} allowed`);
          };
          for (const each of happenings) happen(world, each);
          world.settle();
          mustBeConverged(world);
        },
      ),
      RUNS,
    );
    t.ok(actions > RUNS.numRuns, `${actions} actions in ${RUNS.numRuns} rollouts`);
  },
);

t.test(
  'whatever fails, is scaled, paused or taken away, it converges, and converged means nothing is planned',
  async (t) => {
    let actions = 0;
    const strategies = fc.oneof(
      rolling.map(({ maxSurge, maxUnavailable }) => ({
        type: 'RollingUpdate' as const,
        rollingUpdate: { maxSurge, maxUnavailable },
      })),
      fc.constant({ type: 'Recreate' as const }),
    );
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 9 }),
        strategies,
        fc.integer({ min: 0, max: 3 }),
        fc.array(happening(...ROUGH), { maxLength: 150 }),
        (replicas, strategy, minReadySeconds, happenings) => {
          const world = new SimulatedRollout({ replicas, strategy, minReadySeconds, revisionHistoryLimit: 2 });
          world.onAction = () => void actions++;
          for (const each of happenings) happen(world, each);
          world.editDeployment((deployment) => delete deployment.spec.paused);
          world.settle();
          mustBeConverged(world);
          if (world.sets.size > 3)
            throw new Error(`${world.sets.size} replica sets are kept, though the history is limited to 2`);
          const revisions = [...world.sets.values()].map(
            (set) => set.metadata.annotations?.['deployment.kubernetes.io/revision'],
          );
          if (new Set(revisions).size !== revisions.length)
            throw new Error(`two sets share a revision: ${revisions.join(',')}`);
        },
      ),
      RUNS,
    );
    t.ok(actions > RUNS.numRuns, `${actions} actions in ${RUNS.numRuns} rough lives`);
  },
);

t.test('Recreate never runs two templates at once', async (t) => {
  let created = 0;
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5 }),
      fc.array(happening(...CALM), { minLength: 20, maxLength: 100 }),
      (replicas, happenings) => {
        const world = new SimulatedRollout({ replicas, strategy: { type: 'Recreate' } });
        world.settle();
        world.onAction = (action) => {
          if (action.verb !== 'create' || action.object.kind !== 'Pod') return;
          created++;
          const images = new Set([...world.pods.values()].map((pod) => pod.spec.containers[0]?.image));
          if (images.size > 1) throw new Error(`pods of ${[...images].join(' and ')} run together`);
        };
        for (const each of happenings) happen(world, each);
        world.settle();
        mustBeConverged(world);
      },
    ),
    RUNS,
  );
  t.ok(created > RUNS.numRuns, `${created} pods in ${RUNS.numRuns} lives`);
});
