/**
 * How far each follower of the log has come: every API server, every controller by its name, the projection. They are asked, and answer from memory; nobody publishes anything unasked. Asked for under
 * `/apis/log.reckon.dev/v1/status`; see `questions.ts`.
 */
import type { Follower } from '../../event-log/event-log.ts';
import type { Call } from '../call.ts';
import { sendJson } from '../respond.ts';
import { decode, entryId } from '../store/entry.ts';
import { MEMORY_API_VERSION } from './history.ts';

/** As it stands in the answer, and as `reckon status` reads it. */
export interface Following {
  readonly name: string;
  /** Which of several processes of that name. */
  readonly process: string;
  /** Of several that could act, the one that does, or one that waits to; absent where all act. */
  readonly role?: 'leads' | 'standby';
  /** Everything that concerns it up to here has reached it. */
  readonly seen: number;
  /** And has been dealt with at least once; absent for who waits to lead, and for who does not answer. */
  readonly done?: number;
  /** How many revisions it is behind: with its work, or, where it has none, with what has reached it. */
  readonly lag: number;
  /** Keys that failed when they were last tried. */
  readonly failing?: number;
  /** It was asked and did not answer; `seen` is what was sent to it. */
  readonly unreachable?: true;
  /** Why it does not go on just now. */
  readonly fault?: string;
}

/** Where controllers' Leases stand. */
const LEASE_NAMESPACE = 'kube-system';

export async function status(call: Call): Promise<void> {
  const { definition, services } = call;
  await services.store.current(definition);
  const stream = services.store.stream(definition);
  const revision = stream.position;
  const followers = await stream.followers();
  const present = followers.filter((follower) => !isSucceeded(call, follower, followers));
  sendJson(call, 200, {
    kind: 'ClusterStatus',
    apiVersion: MEMORY_API_VERSION,
    revision,
    followers: present.map((follower) => toFollowing(call, follower, revision)).sort(byName),
  });
}

/** A process that has ended is remembered for a while. It counts no more once another answers under its name, unless it still holds the Lease. */
function isSucceeded(call: Call, one: Follower, all: readonly Follower[]): boolean {
  if (one.answers || one.isListening || holderOf(call, one.name) === one.process) return false;
  return all.some(({ name, answers }) => name === one.name && answers);
}

function toFollowing(call: Call, follower: Follower, revision: number): Following {
  const { name, process, seen, done, failing, answers, fault } = follower;
  // Of one that does not answer the Lease tells whether it leads.
  const role = answers ? follower.role : roleByLease(holderOf(call, name), process);
  return {
    name,
    process,
    ...(role && { role }),
    seen,
    ...(done !== undefined && { done }),
    lag: Math.max(0, revision - (done ?? seen)),
    ...(failing > 0 && { failing }),
    ...(!answers && { unreachable: true as const }),
    ...(fault !== undefined && { fault }),
  };
}

const roleByLease = (holder: string | undefined, process: string): Following['role'] =>
  holder === undefined ? undefined : holder === process ? 'leads' : 'standby';

/** Undefined where there is no such Lease: nobody elects. */
function holderOf({ services }: Call, lease: string): string | undefined {
  const leases = services.registry.byResource('coordination.k8s.io', 'v1', 'leases');
  const entry = leases && services.store.cache(leases).get(entryId({ namespace: LEASE_NAMESPACE, name: lease }));
  return entry && (decode(entry)['spec'] as { holderIdentity?: string } | undefined)?.holderIdentity;
}

const byName = (one: Following, other: Following): number =>
  one.name < other.name ? -1 : one.name > other.name ? 1 : 0;
