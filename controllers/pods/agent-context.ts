/** What the parts of the node agent share: the engine and what is known of it, the World, the node's own facts. Made once by agent.ts. */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { ContainerRuntime, Volume } from '../../runtime/container-runtime.ts';
import type { Logger } from '../../sdk/logger.ts';
import type { World } from '../../sdk/world.ts';
import type { AddressPool } from './addresses.ts';
import type { DownwardFacts } from './downward.ts';
import { INSTANCE_LABEL } from './labels.ts';
import type { Notes } from './notes.ts';
import { POD_RESOURCE, type Pod } from './observation.ts';
import { specOf } from './pod-shape.ts';
import type { PodNetwork } from './pod-network.ts';
import type { RuntimeCache } from './runtime-cache.ts';
import type { Sources } from './sources.ts';
import type { PodTokens } from './tokens.ts';
import type { PodFolders } from './volumes/pod-folder.ts';
import type { EngineSource } from './volumes/volume-source.ts';

export interface AgentContext {
  readonly runtime: ContainerRuntime;
  readonly cache: RuntimeCache;
  readonly folders: PodFolders;
  readonly addresses: AddressPool;
  readonly sources: Sources;
  readonly tokens: PodTokens;
  readonly world: World;
  /** What is done to containers, and why, for the record. */
  readonly notes: Notes;
  readonly logger: Logger;
  readonly instance: string;
  readonly nodeName: string;
  readonly hostAddresses: readonly string[];
  readonly network: PodNetwork;
  /** Name servers of the cluster. */
  readonly clusterDns: readonly string[];
  readonly allocatable: Readonly<Record<string, string>>;
  /** Aborted when the agent stops: nothing new is begun. */
  readonly signal: AbortSignal;
  now(): number;
  /** The engine's volume of a claim, fit to be used. */
  engineVolume(source: EngineSource): Promise<Volume>;
  /** Publishes an Event in the background. */
  record(about: ApiObject, type: 'Normal' | 'Warning', reason: string, message: string): void;
}

export function downwardFacts(context: AgentContext, pod: Pod): DownwardFacts {
  const address =
    specOf(pod).hostNetwork === true
      ? (context.hostAddresses[0] ?? '')
      : (context.addresses.of(pod.metadata.uid ?? '') ?? pod.status?.podIP ?? '');
  return {
    pod,
    address,
    hostAddresses: context.hostAddresses,
    nodeName: context.nodeName,
    allocatable: context.allocatable,
  };
}

/** The pod as the World has it, if it is still this one and still to run. */
export function wantedPod(
  context: AgentContext,
  key: { namespace: string; name: string },
  uid: string,
): Pod | undefined {
  if (context.signal.aborted) return undefined;
  const pod = context.world.get<Pod>(POD_RESOURCE, key.namespace, key.name);
  return pod?.metadata.uid === uid && pod.metadata.deletionTimestamp === undefined ? pod : undefined;
}

export function instanceLabels(instance: string): Record<string, string> {
  return { [INSTANCE_LABEL]: instance };
}
