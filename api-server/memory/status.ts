/**
 * How far each follower of the log has come: every API server, every controller by its name, the projection. Followers are asked of the log's server, which counts what it has sent each; nobody publishes anything. Asked for under
 * `/apis/log.reckon.dev/v1/status`; see `questions.ts`.
 */
import type { Call } from '../call.ts';
import { StatusError } from '../errors.ts';
import { sendJson } from '../respond.ts';
import { decode, entryId } from '../store/entry.ts';
import { MEMORY_API_VERSION } from './history.ts';

interface Following {
  readonly name: string;
  /** Which of several processes of that name. */
  readonly process?: string;
  /** Everything up to here is in; absent when it cannot be asked. */
  readonly position?: number;
  /** Records that are there for it and that it does not have yet. */
  readonly lag?: number;
  /** Of controllers of which one leads: it is this one. */
  readonly leading?: true;
  readonly fault?: string;
}

/** Where controllers' Leases stand. */
const LEASE_NAMESPACE = 'kube-system';
const SILENT = 'silent: it does not ask the log for more';

export async function status(call: Call): Promise<void> {
  const { definition, services } = call;
  await services.store.current(definition);
  const { position } = services.store.stream(definition);
  const [followers, recorded] = await Promise.all([followersOf(call), projectionOf(call, position)]);
  sendJson(call, 200, {
    kind: 'ClusterStatus',
    apiVersion: MEMORY_API_VERSION,
    revision: position,
    followers: [...followers, recorded] satisfies readonly Following[],
  });
}

async function followersOf(call: Call): Promise<Following[]> {
  const { definition, services } = call;
  const all = (await services.store.stream(definition).followers()).flatMap((follower) =>
    follower.names.map((name) => ({ ...follower, name })),
  );
  // What a process that has ended was sent is remembered for a while.
  const alive = all.filter(
    ({ name, isListening }) => isListening || !all.some((other) => other.name === name && other.isListening),
  );
  return alive
    .map(({ name, process, position, pending, isListening }) => ({
      name,
      process,
      position,
      lag: pending,
      ...(holderOf(call, name) === process && { leading: true as const }),
      ...(!isListening && { fault: SILENT }),
    }))
    .sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}

function holderOf({ services }: Call, lease: string): string | undefined {
  const leases = services.registry.byResource('coordination.k8s.io', 'v1', 'leases');
  const entry = leases && services.store.cache(leases).get(entryId({ namespace: LEASE_NAMESPACE, name: lease }));
  return entry && (decode(entry)['spec'] as { holderIdentity?: string } | undefined)?.holderIdentity;
}

function projectionOf({ services }: Call, newest: number): Promise<Following> {
  const recorded = services.past?.recordedUpTo() ?? Promise.reject(new Error('this API server has no database'));
  return recorded.then<Following, Following>(
    (reached) => ({ name: 'projection', position: reached, lag: Math.max(0, newest - reached) }),
    (error: Error) => {
      if (error instanceof StatusError && error.code !== 503) throw error;
      return { name: 'projection', fault: error.message };
    },
  );
}
