/**
 * Which requests share places with which, in the spirit of API Priority and Fairness: the control plane, administrators and everybody else never wait for one another, the renewal of a Lease waits for nobody, and within a level every
 * user is a flow of its own. What stays open (watches, logs, streams) takes no place, but each user has only so many. Asked by `server.ts`.
 * https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
 */
import type { ServerResponse } from 'node:http';
import { ADMINISTRATORS, NODES, UNAUTHENTICATED, type Identity } from '../authentication/identity.ts';
import { tooManyRequests } from '../errors.ts';
import type { ResourceRequest } from '../request.ts';
import { FairQueue, type QueueLimits, type Refusal } from './fair-queue.ts';

export type Level = 'leases' | 'system' | 'administrators' | 'workload' | 'anonymous';

export type Limits = Readonly<Record<Level, QueueLimits>> & {
  /** Watches, logs and streams that one user may have open. */
  readonly longRunningPerUser: number;
};

export const LIMITS: Limits = {
  leases: { places: 64, waitingPerFlow: 64, waiting: 1_024 },
  system: { places: 256, waitingPerFlow: 512, waiting: 4_096 },
  administrators: { places: 128, waitingPerFlow: 512, waiting: 2_048 },
  workload: { places: 128, waitingPerFlow: 256, waiting: 4_096 },
  anonymous: { places: 16, waitingPerFlow: 32, waiting: 32 },
  longRunningPerUser: 2_000,
};

const RETRY_AFTER_SECONDS = 1;
const OWN = 'system:';
const CONTROLLERS = 'system:controllers';
const LONG_RUNNING = new Set(['log', 'exec', 'attach', 'portforward', 'proxy']);

/** Whether it stays open for as long as the client wants. */
export const isLongRunning = ({ verb, subresource }: ResourceRequest): boolean =>
  verb === 'watch' || LONG_RUNNING.has(subresource);

function levelOf({ groups, user }: Identity, { group, resource }: ResourceRequest): Level {
  if (groups.includes(UNAUTHENTICATED)) return 'anonymous';
  const own = user.startsWith(OWN) && (groups.includes(NODES) || groups.includes(CONTROLLERS));
  if (own && group === 'coordination.k8s.io' && resource === 'leases') return 'leases';
  if (own) return 'system';
  return groups.includes(ADMINISTRATORS) ? 'administrators' : 'workload';
}

export class Fairness {
  readonly #queues: Readonly<Record<Level, FairQueue>>;
  readonly #longRunningPerUser: number;
  /** By user. */
  readonly #open = new Map<string, number>();
  readonly #refused = new Map<string, number>();

  constructor(limits: Partial<Limits> = {}) {
    const { longRunningPerUser, ...levels } = { ...LIMITS, ...limits };
    this.#longRunningPerUser = longRunningPerUser;
    this.#queues = {
      leases: new FairQueue(levels.leases),
      system: new FairQueue(levels.system),
      administrators: new FairQueue(levels.administrators),
      workload: new FairQueue(levels.workload),
      anonymous: new FairQueue(levels.anonymous),
    };
  }

  /** The release of a place, once there is one. Rejects with TooManyRequests. */
  enter(identity: Identity, target: ResourceRequest, response: ServerResponse): (() => void) | Promise<() => void> {
    // Who acts in the name of many is still one.
    const flow = identity.impersonator ?? identity.user;
    if (isLongRunning(target)) return this.stayOpen(flow);
    const level = levelOf(identity, target);
    const entering = this.#queues[level].enter(flow);
    if (typeof entering === 'function') return entering;
    if (typeof entering === 'string') throw this.#refuse(level, entering);
    response.once('close', entering.leave);
    return entering.place.then(
      (release) => {
        response.off('close', entering.leave);
        return release;
      },
      (refusal: Refusal) => Promise.reject(this.#refuse(level, refusal)),
    );
  }

  /** A stream that was taken over has no end that is seen here: `leave` is for its socket's. */
  stayOpen(user: string): () => void {
    const open = this.#open.get(user) ?? 0;
    if (open >= this.#longRunningPerUser) throw this.#refuse('long-running', 'concurrency-limit');
    this.#open.set(user, open + 1);
    let left = false;
    return () => {
      if (left) return;
      left = true;
      const rest = (this.#open.get(user) ?? 1) - 1;
      if (rest === 0) this.#open.delete(user);
      else this.#open.set(user, rest);
    };
  }

  #refuse(level: string, reason: string): Error {
    const id = `${level} ${reason}`;
    this.#refused.set(id, (this.#refused.get(id) ?? 0) + 1);
    return tooManyRequests(RETRY_AFTER_SECONDS);
  }

  /** For the metrics: by level, how many hold a place and how many wait. */
  levels(): readonly { readonly level: string; readonly held: number; readonly waiting: number }[] {
    return Object.entries(this.#queues).map(([level, { held, waiting }]) => ({ level, held, waiting }));
  }

  longRunning(): number {
    let sum = 0;
    for (const open of this.#open.values()) sum += open;
    return sum;
  }

  /** How often a request was refused, by level and reason. */
  *refusals(): Iterable<{ readonly level: string; readonly reason: string; readonly count: number }> {
    for (const [id, count] of this.#refused) {
      const [level = '', reason = ''] = id.split(' ');
      yield { level, reason, count };
    }
  }
}
