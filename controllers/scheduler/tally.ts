/**
 * What stands on every node, and which pods wait for one. Kept current by looking only at the pods that differ from those seen last, so that thousands of pods cost a decision little; counts
 * the choices that were made but cannot be read back yet. Used by `index.ts` alone.
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Node, Pod } from '../../api-schemas/types/core-v1.ts';
import type { World } from '../../sdk/index.ts';
import type { Candidate } from './fit.ts';
import { antiAffinityTerms, type Placed } from './neighbours.ts';
import { amounts, hostPorts, isOver, podRequests, type Amounts, type HostPort } from './requests.ts';

export type PodObject = Pod & ApiObject;

const PODS = { group: '', resource: 'pods' };
const NODES = { group: '', resource: 'nodes' };
const SCHEDULER_NAME = 'default-scheduler';

/** `isCertain`: the server said that the binding stands. Otherwise its outcome is unknown, and is counted to be safe. */
interface Choice {
  readonly nodeName: string;
  readonly isCertain: boolean;
}

interface Entry {
  readonly pod: PodObject;
  readonly nodeName: string | undefined;
  readonly requests: Amounts;
  readonly hostPorts: readonly HostPort[];
  readonly owner: string | undefined;
  round: number;
}

class NodeLoad {
  readonly requested: Record<string, bigint> = {};
  hostPorts: HostPort[] = [];
  readonly replicas = new Map<string, number>();

  add({ requests, hostPorts: ports, owner }: Entry): void {
    for (const [name, amount] of Object.entries(requests)) this.requested[name] = (this.requested[name] ?? 0n) + amount;
    if (ports.length > 0) this.hostPorts = [...this.hostPorts, ...ports];
    if (owner) this.replicas.set(owner, (this.replicas.get(owner) ?? 0) + 1);
  }

  remove({ requests, hostPorts: ports, owner }: Entry): void {
    for (const [name, amount] of Object.entries(requests)) this.requested[name] = (this.requested[name] ?? 0n) - amount;
    if (ports.length > 0) this.hostPorts = this.hostPorts.filter((port) => !ports.includes(port));
    const replicas = owner === undefined ? 0 : (this.replicas.get(owner) ?? 0) - 1;
    if (owner && replicas > 0) this.replicas.set(owner, replicas);
    else if (owner) this.replicas.delete(owner);
  }

  without(entry: Entry): NodeLoad {
    const rest = new NodeLoad();
    Object.assign(rest.requested, this.requested);
    rest.hostPorts = this.hostPorts;
    for (const [owner, count] of this.replicas) rest.replicas.set(owner, count);
    rest.remove(entry);
    return rest;
  }
}

export const waitsForNode = (pod: PodObject): boolean =>
  !pod.spec?.nodeName &&
  !isOver(pod) &&
  !pod.metadata.deletionTimestamp &&
  (pod.spec?.schedulerName ?? SCHEDULER_NAME) === SCHEDULER_NAME;

export class Tally {
  /** By uid. */
  readonly #entries = new Map<string, Entry>();
  readonly #choices = new Map<string, Choice>();
  readonly #loads = new Map<string, NodeLoad>();
  readonly #pending = new Map<string, PodObject>();
  readonly #guards = new Map<string, Placed>();
  readonly #allocatable = new WeakMap<Node, Amounts>();
  #position = -1;
  #round = 0;

  /** Reads what has changed since the last time. */
  sync(world: World): void {
    if (world.position === this.#position) return;
    this.#position = world.position;
    const round = ++this.#round;
    for (const pod of world.list<PodObject>(PODS)) {
      const uid = pod.metadata.uid ?? '';
      const known = this.#entries.get(uid);
      if (known?.pod === pod) known.round = round;
      else this.#put(uid, pod);
    }
    for (const [uid, entry] of this.#entries) {
      if (entry.round === round) continue;
      this.#drop(uid, entry);
      this.#choices.delete(uid);
    }
  }

  /** Nodes with what stands on them beside this pod; valid until the next call of this object. */
  candidates(world: World, { metadata }: PodObject): Candidate[] {
    const nothing = new NodeLoad();
    const own = this.#entries.get(metadata.uid ?? '');
    return world.list<Node & ApiObject>(NODES).map((node) => {
      let allocatable = this.#allocatable.get(node);
      if (!allocatable) this.#allocatable.set(node, (allocatable = amounts(node.status?.allocatable)));
      const load = this.#loads.get(node.metadata.name) ?? nothing;
      const { requested, hostPorts: ports, replicas } = own?.nodeName === node.metadata.name ? load.without(own) : load;
      return { node, allocatable, requested, hostPorts: ports, replicas };
    });
  }

  pending(): Iterable<PodObject> {
    return this.#pending.values();
  }

  /** Pods that keep others away, but for this one. */
  guards(pod: PodObject): Placed[] {
    return [...this.#guards.values()].filter((guard) => guard.pod !== pod);
  }

  /** Every pod that has a node, but for this one. */
  placed(pod: PodObject): Placed[] {
    const found: Placed[] = [];
    for (const { pod: other, nodeName } of this.#entries.values())
      if (nodeName !== undefined && other !== pod) found.push({ pod: other, nodeName });
    return found;
  }

  choice(uid: string): Choice | undefined {
    return this.#choices.get(uid);
  }

  /** Counts a choice from now on. */
  choose(pod: PodObject, choice: Choice): void {
    const uid = pod.metadata.uid ?? '';
    // A pod that is gone by now takes no place, and nothing would ever say so again.
    if (!this.#entries.has(uid)) return;
    this.#choices.set(uid, choice);
    this.#recount(uid);
  }

  /** The choice has come to nothing. */
  forget(uid: string): void {
    if (this.#choices.delete(uid)) this.#recount(uid);
  }

  #recount(uid: string): void {
    const entry = this.#entries.get(uid);
    if (entry) this.#put(uid, entry.pod);
  }

  #put(uid: string, pod: PodObject): void {
    const known = this.#entries.get(uid);
    if (known) this.#drop(uid, known);
    if (pod.spec?.nodeName || isOver(pod)) this.#choices.delete(uid);
    const chosen = pod.spec?.nodeName || this.#choices.get(uid)?.nodeName;
    const nodeName = chosen === undefined || isOver(pod) ? undefined : chosen;
    const entry: Entry = {
      pod,
      nodeName,
      requests: nodeName === undefined ? {} : podRequests(pod.spec),
      hostPorts: nodeName === undefined ? [] : hostPorts(pod),
      owner: pod.metadata.ownerReferences?.find(({ controller }) => controller)?.uid,
      round: this.#round,
    };
    this.#entries.set(uid, entry);
    if (waitsForNode(pod)) this.#pending.set(uid, pod);
    if (nodeName === undefined) return;
    let load = this.#loads.get(nodeName);
    if (!load) this.#loads.set(nodeName, (load = new NodeLoad()));
    load.add(entry);
    if (antiAffinityTerms(pod).length > 0) this.#guards.set(uid, { pod, nodeName });
  }

  #drop(uid: string, entry: Entry): void {
    this.#entries.delete(uid);
    this.#pending.delete(uid);
    this.#guards.delete(uid);
    if (entry.nodeName !== undefined) this.#loads.get(entry.nodeName)?.remove(entry);
  }
}
