/**
 * A world of one Deployment in memory, stepped by hand: the planners of deployments and replicasets act on it as the SDK would have them act, pods come and go as the test says. For the
 * properties in this folder.
 */
import type { Deployment, ReplicaSet } from '../../../api-schemas/types/apps-v1.ts';
import type { Pod } from '../../../api-schemas/types/core-v1.ts';
import { reconcile as reconcileDeployment } from '../../../controllers/deployments/reconcile.ts';
import { isActive, isReady } from '../../../controllers/replicasets/pod-state.ts';
import { reconcile as reconcileReplicaSet } from '../../../controllers/replicasets/reconcile.ts';
import { type ApiAction, type ApiObject, controllerOf, type Plan, sameJson, timestamp } from '../../../sdk/index.ts';

type Strategy = NonNullable<Deployment['spec']['strategy']>;

const clone = <T>(value: T): T => structuredClone(value);

/** RFC 7396, as the API server applies it. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const result: Record<string, unknown> =
    typeof target === 'object' && target !== null && !Array.isArray(target) ? { ...target } : {};
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) delete result[key];
    else result[key] = mergePatch(result[key], value);
  }
  return result;
}

export class SimulatedRollout {
  deployment: Deployment;
  readonly sets = new Map<string, ReplicaSet>();
  readonly pods = new Map<string, Pod>();
  readonly log: string[] = [];
  nowMs = Date.UTC(2030, 0, 1);
  /** Called before and after each action, to hold invariants. */
  onAction: (action: ApiAction) => void = () => undefined;
  #sequence = 0;

  constructor(options: {
    replicas: number;
    strategy: Strategy;
    minReadySeconds?: number;
    revisionHistoryLimit?: number;
    progressDeadlineSeconds?: number;
  }) {
    const {
      replicas,
      strategy,
      minReadySeconds = 0,
      revisionHistoryLimit = 10,
      progressDeadlineSeconds = 600,
    } = options;
    this.deployment = {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name: 'web', namespace: 'shop', uid: 'deployment-web', generation: 1, ...this.#stamp() },
      spec: {
        replicas,
        strategy,
        minReadySeconds,
        revisionHistoryLimit,
        progressDeadlineSeconds,
        selector: { matchLabels: { app: 'web' } },
        template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ name: 'web', image: 'web:1' }] } },
      },
      status: {},
    } as Deployment;
  }

  setImage(image: string): void {
    this.editDeployment((deployment) => {
      const [container] = deployment.spec.template.spec?.containers ?? [];
      if (container) container.image = image;
    });
  }

  editDeployment(edit: (deployment: Deployment) => void): void {
    const next = clone(this.deployment);
    edit(next);
    if (!sameJson(next.spec, this.deployment.spec)) next.metadata.generation = (next.metadata.generation ?? 0) + 1;
    this.deployment = { ...next, metadata: { ...next.metadata, ...this.#stamp() } };
  }

  planDeployment(): Plan<ApiAction> {
    const replicaSets = [...this.sets.values()];
    return reconcileDeployment(clone(this.deployment), {
      replicaSets: clone(replicaSets),
      takenNames: new Set(),
      pods: clone([...this.pods.values()]),
      nowMs: this.nowMs,
    });
  }

  planSet(name: string): Plan<ApiAction> {
    const set = this.sets.get(name);
    if (!set) throw new Error(`there is no set ${name}`);
    const pods = [...this.pods.values()].filter((pod) => controllerOf(pod)?.uid === set.metadata.uid);
    return reconcileReplicaSet(clone(set), {
      pods: clone(pods),
      relatedPods: clone([...this.pods.values()]),
      nowMs: this.nowMs,
    });
  }

  /** True when the plan changed anything. */
  stepDeployment(): boolean {
    const plan = this.planDeployment();
    for (const action of plan.actions) this.#carryOut(action);
    const isStatusNew = plan.status !== undefined && !sameJson(plan.status, this.deployment.status);
    if (isStatusNew)
      this.deployment = {
        ...this.deployment,
        status: plan.status as Deployment['status'],
        metadata: { ...this.deployment.metadata, resourceVersion: this.#next() },
      };
    return isStatusNew || plan.actions.length > 0;
  }

  stepSet(name: string): boolean {
    const plan = this.planSet(name);
    for (const action of plan.actions) this.#carryOut(action);
    const set = this.sets.get(name);
    const isStatusNew = set !== undefined && plan.status !== undefined && !sameJson(plan.status, set.status);
    if (isStatusNew)
      this.sets.set(name, {
        ...set,
        status: plan.status as unknown as ReplicaSet['status'],
        metadata: { ...set.metadata, resourceVersion: this.#next() },
      });
    return isStatusNew || plan.actions.length > 0;
  }

  makeReady(name: string): void {
    this.#editPod(name, (pod) => {
      pod.spec.nodeName = 'node';
      pod.status = {
        phase: 'Running',
        conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: timestamp(this.nowMs) }],
      };
    });
  }

  makeUnready(name: string): void {
    this.#editPod(
      name,
      (pod) =>
        (pod.status = {
          ...pod.status,
          conditions: [{ type: 'Ready', status: 'False', lastTransitionTime: timestamp(this.nowMs) }],
        }),
    );
  }

  fail(name: string): void {
    this.#editPod(name, (pod) => (pod.status = { phase: 'Failed' }));
  }

  /** The node has ended a pod that was told to go. */
  finish(name: string): void {
    if (this.pods.get(name)?.metadata.deletionTimestamp) this.pods.delete(name);
  }

  get active(): Pod[] {
    return [...this.pods.values()].filter(isActive);
  }

  get ready(): number {
    return this.active.filter(isReady).length;
  }

  /** Steps everything, pods becoming ready and going as they should, until nothing changes any more. Throws where that does not end. */
  settle(): void {
    for (let round = 0; round < 400; round++) {
      let changed = false;
      for (const pod of [...this.pods.values()]) {
        if (pod.metadata.deletionTimestamp) {
          this.finish(pod.metadata.name);
          changed = true;
        } else if (isActive(pod) && !isReady(pod)) {
          this.makeReady(pod.metadata.name);
          changed = true;
        }
      }
      this.nowMs += 1000 * (1 + (this.deployment.spec.minReadySeconds ?? 0));
      for (const name of [...this.sets.keys()]) changed = this.stepSet(name) || changed;
      changed = this.stepDeployment() || changed;
      if (!changed) return;
    }
    throw new Error(`it does not settle: ${this.log.slice(-10).join('; ')}`);
  }

  #carryOut(action: ApiAction): void {
    this.log.push(
      `${action.verb} ${'name' in action ? action.name : ''}${action.verb === 'create' ? action.object.metadata.name : ''} ${action.verb === 'patch' ? JSON.stringify(action.patch['spec'] ?? {}) : ''}`,
    );
    if (action.verb === 'create') this.#create(action.object);
    else if (action.verb === 'patch') this.#patch(action);
    else if (action.verb === 'delete') this.#delete(action);
    this.onAction(action);
  }

  #create(object: ApiObject): void {
    const metadata = { ...object.metadata, uid: `uid-${this.#next()}`, generation: 1, ...this.#stamp() };
    if (object.kind === 'Pod') {
      if (this.pods.has(object.metadata.name)) throw new Error(`pod ${object.metadata.name} is there already`);
      this.pods.set(object.metadata.name, {
        ...clone(object),
        metadata,
        status: { phase: 'Pending' },
      } as unknown as Pod);
    } else {
      if (this.sets.has(object.metadata.name)) throw new Error(`set ${object.metadata.name} is there already`);
      this.sets.set(object.metadata.name, {
        ...clone(object),
        metadata,
        status: { replicas: 0 },
      } as unknown as ReplicaSet);
    }
  }

  #patch(action: Extract<ApiAction, { verb: 'patch' }>): void {
    if (action.resource.resource === 'deployments') {
      this.editDeployment((deployment) => Object.assign(deployment, mergePatch(deployment, action.patch)));
      return;
    }
    const set = this.sets.get(action.name);
    if (!set) throw new Error(`there is no set ${action.name} to patch`);
    const next = mergePatch(set, action.patch) as ReplicaSet;
    const generation = (set.metadata.generation ?? 0) + (sameJson(next.spec, set.spec) ? 0 : 1);
    this.sets.set(action.name, { ...next, metadata: { ...next.metadata, generation, resourceVersion: this.#next() } });
  }

  #delete(action: Extract<ApiAction, { verb: 'delete' }>): void {
    if (action.resource.resource === 'replicasets') this.sets.delete(action.name);
    else this.#editPod(action.name, (pod) => (pod.metadata.deletionTimestamp = timestamp(this.nowMs)));
  }

  #editPod(name: string, edit: (pod: Pod) => void): void {
    const pod = this.pods.get(name);
    if (!pod) return;
    const next = clone(pod);
    edit(next);
    this.pods.set(name, next);
  }

  #stamp(): { creationTimestamp: string; resourceVersion: string } {
    return { creationTimestamp: timestamp(this.nowMs), resourceVersion: this.#next() };
  }

  #next(): string {
    return String(++this.#sequence);
  }
}
