/**
 * The node agent: the controller that brings the container engine of one node in line with the pods that are bound to it. It is an SDK controller of scope `node` with sources of
 * its own: the engine's events. Made by index.ts, which gives it its node.
 */
import { DATA_ANNOTATION } from '../../api-schemas/docker-volumes.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { PersistentVolume } from '../../api-schemas/types/core-v1.ts';
import { EventRecorder } from '../../sdk/events.ts';
import type { Controller, StartContext } from '../../sdk/controller.ts';
import type { Container, ContainerRuntime } from '../../runtime/container-runtime.ts';
import type { Logger } from '../../sdk/logger.ts';
import type { ObjectKey } from '../../sdk/index.ts';
import { instanceLabels, type AgentContext } from './agent-context.ts';
import { AddressPool } from './addresses.ts';
import { ADDRESS_LABEL, CONTAINER_LABEL, NODE_LABEL, POD_UID_LABEL, podOf } from './labels.ts';
import { POD_RESOURCE, type Observed, type Pod, type PodAction, type RuntimeAction } from './observation.ts';
import { Notes } from './notes.ts';
import { Operations } from './operations.ts';
import { PodObserver } from './observe.ts';
import { VolumeNews } from './persistent-volumes.ts';
import { PodNetwork } from './pod-network.ts';
import { isTerminal, specOf } from './pod-shape.ts';
import { reconcilePod } from './reconcile.ts';
import { referredNames } from './references.ts';
import { RuntimeCache } from './runtime-cache.ts';
import { runs } from './slot-view.ts';
import { CLAIMS, CONFIG_MAPS, NODES, SECRETS, SERVICES, Sources, VOLUMES } from './sources.ts';
import { engineVolume } from './volumes/engine-volume.ts';
import { PodTokens } from './tokens.ts';
import { PodFolders } from './volumes/pod-folder.ts';

export interface AgentOptions {
  readonly runtime: ContainerRuntime;
  readonly instance: string;
  readonly nodeName: string;
  /** The node's own; the first is `hostIP`. */
  readonly hostAddresses: readonly string[];
  /** Folder for the pods' files. */
  readonly home: string;
  readonly network: string;
  readonly podCidr: string;
  /** Name servers of the cluster; by default the gateway of the pods' network. */
  readonly clusterDns?: readonly string[];
  readonly allocatable: Readonly<Record<string, string>>;
  readonly logger: Logger;
}

/** Plans are quick; what takes long runs beside them. */
const CONCURRENCY = 64;
/** What Kubernetes calls the agent of a node: so tools know whose Events these are. */
const COMPONENT = 'kubelet';

export class NodeAgent {
  readonly controller: Controller<Pod, Observed, PodAction>;
  /** What concerns the PersistentVolumes of this node. */
  readonly volumeNews = new VolumeNews();
  /** The engine went away, or came back. */
  onAvailability: (() => void) | undefined;
  readonly #options: AgentOptions;
  #context: AgentContext | undefined;
  #operations: Operations | undefined;
  #observer: PodObserver | undefined;
  #started: (() => void) | undefined;
  /** Resolves when the agent knows its engine. */
  readonly started = new Promise<void>((resolve) => (this.#started = resolve));

  constructor(options: AgentOptions) {
    this.#options = options;
    this.controller = {
      name: 'pods',
      eventSource: { component: COMPONENT, host: options.nodeName },
      resource: POD_RESOURCE,
      scope: 'node',
      concurrency: CONCURRENCY,
      watches: [
        {
          resource: CONFIG_MAPS,
          keysFor: (map) => this.#podsReferringTo('configMaps', map.metadata.namespace ?? '', map.metadata.name),
        },
        {
          resource: SECRETS,
          keysFor: (secret) => this.#podsReferringTo('secrets', secret.metadata.namespace ?? '', secret.metadata.name),
        },
        {
          resource: CLAIMS,
          keysFor: (claim) => this.#podsReferringTo('claims', claim.metadata.namespace ?? '', claim.metadata.name),
        },
        {
          resource: VOLUMES,
          keysFor: (volume) => {
            const claim = (volume['spec'] as { claimRef?: { namespace?: string; name?: string } } | undefined)
              ?.claimRef;
            return claim?.name === undefined ? [] : this.#podsReferringTo('claims', claim.namespace ?? '', claim.name);
          },
        },
        // For the variables of enableServiceLinks; a change of a Service concerns no pod that runs.
        { resource: SERVICES, keysFor: () => [] },
        // For the node's own report.
        { resource: NODES, keysFor: () => [] },
      ],
      start: (context) => this.#start(context),
      observe: (key, _world, nowMs) => this.#observer?.observe(key, nowMs),
      reconcile: reconcilePod,
      apply: async (action, { key, causes }) => this.#operations?.apply(action as RuntimeAction, key, causes),
    };
  }

  /** Once it has started. */
  get context(): AgentContext {
    if (this.#context === undefined) throw new Error('the agent has not started');
    return this.#context;
  }

  get operations(): Operations {
    if (this.#operations === undefined) throw new Error('the agent has not started');
    return this.#operations;
  }

  /** Resolves when what was begun has ended; nothing new is begun once the agent's signal is aborted. */
  async idle(): Promise<void> {
    await this.#operations?.idle();
  }

  async #start({ client, world, enqueue, signal }: StartContext): Promise<void> {
    const options = this.#options;
    const { runtime, logger } = options;
    const enqueuePod = ({ namespace, name }: { namespace: string; name: string }): void =>
      enqueue(podKey(namespace, name));
    const network = new PodNetwork(runtime, {
      name: options.network,
      subnet: options.podCidr,
      bridge: bridgeName(options.instance),
      labels: instanceLabels(options.instance),
    });
    const cache: RuntimeCache = new RuntimeCache({
      runtime,
      labels: { ...instanceLabels(options.instance), [NODE_LABEL]: options.nodeName },
      logger,
      signal,
      onChange: enqueuePod,
      isBeingStarted: (labels) =>
        this.#operations?.isStarting(labels[POD_UID_LABEL] ?? '', labels[CONTAINER_LABEL] ?? '') === true,
      onAvailability: (available) => {
        if (available) {
          this.#renewNetwork(network);
          this.volumeNews.tell();
        }
        this.#enqueueAll(enqueuePod);
        this.onAvailability?.();
      },
      onVolumeRemoved: (name) => {
        logger.warn({ volume: name }, 'a volume was removed from the engine');
        this.volumeNews.tell({ volume: name });
      },
      onNetworkRemoved: (name) => {
        if (name !== network.name) return;
        logger.warn({ network: name }, 'the network of the pods was removed from the engine; it is made again');
        this.#renewNetwork(network);
        // Which containers have lost it.
        void cache.relist();
      },
      onUnread: (container, sinceMs) => this.#tellUnread(container, sinceMs),
    });
    const recorder = new EventRecorder(client, logger);
    const source = { component: COMPONENT, host: options.nodeName };
    const addresses = new AddressPool(options.podCidr);
    const tokens = new PodTokens({ client, logger, now: Date.now });
    const context: AgentContext = {
      runtime,
      cache,
      folders: new PodFolders(options.home),
      addresses,
      sources: new Sources({ world, client, tokens }),
      tokens,
      world,
      notes: new Notes(),
      logger,
      instance: options.instance,
      nodeName: options.nodeName,
      hostAddresses: options.hostAddresses,
      network,
      clusterDns: options.clusterDns ?? [gatewayOf(options.podCidr)],
      allocatable: options.allocatable,
      signal,
      now: Date.now,
      engineVolume: (source) =>
        engineVolume(source, {
          runtime,
          labels: instanceLabels(options.instance),
          read: (name) => client.get<PersistentVolume & ApiObject>({ resource: VOLUMES, name }),
          mark: async ({ metadata }, state) => {
            const { name, uid } = metadata;
            const patch = { metadata: { uid, annotations: { [DATA_ANNOTATION]: state } } };
            await client.patch({ resource: VOLUMES, name }, patch, { because: `its data is on this node`, signal });
          },
          doubt: (persistentVolume) => this.volumeNews.tell({ persistentVolume }),
        }),
      record: (about, type, reason, message) => recorder.record({ about, type, reason, message }, source, []),
    };
    const operations = new Operations(context, enqueuePod);
    this.#context = context;
    this.#operations = operations;
    await cache.start();
    await network.ensure();
    if (runtime.kind !== 'simulated')
      for (const pod of await context.folders.list()) operations.folders.set(pod.uid, pod);
    this.#adopt(context);
    // From here on pods are observed: not before it is known what runs, and which address is whose.
    this.#observer = new PodObserver(context, operations);
    this.#enqueueAll(enqueuePod);
    this.#started?.();
  }

  /** Addresses belong first to what runs, then to what has run, then to whom a status names. */
  #adopt(context: AgentContext): void {
    const { addresses } = context;
    const claim = (uid: string, address: string | undefined): void => {
      if (address !== undefined && addresses.of(uid) === undefined) addresses.claim(uid, address);
    };
    const containers = [...context.cache.all()].toSorted((a, b) => Number(runs(b)) - Number(runs(a)));
    for (const { labels } of containers) claim(labels[POD_UID_LABEL] ?? '', labels[ADDRESS_LABEL]);
    for (const pod of context.world.list<Pod>(POD_RESOURCE)) {
      const { nodeName, hostNetwork } = specOf(pod);
      if (nodeName === context.nodeName && hostNetwork !== true && !isTerminal(pod))
        claim(pod.metadata.uid ?? '', pod.status?.podIP);
    }
    context.logger.info({ containers: containers.length, addresses: addresses.entries().size }, 'found what was there');
  }

  /** Where that fails, whoever starts a container tries again. */
  #renewNetwork(network: PodNetwork): void {
    network.doubt();
    void network.ensure().catch((error: unknown) => {
      this.#options.logger.warn({ err: error, network: network.name }, 'the network of the pods could not be made');
    });
  }

  /** A pod whose container the engine will not tell of stays as it was; whoever looks at it learns why. */
  #tellUnread(container: Container, sinceMs: number): void {
    const context = this.#context;
    const owner = podOf(container.labels);
    if (context === undefined || owner === undefined) return;
    const name = container.labels[CONTAINER_LABEL] ?? '';
    const forMs = Math.round(Date.now() - sinceMs);
    context.logger.warn(
      { pod: `${owner.namespace}/${owner.name}`, container: container.id, forMs },
      'the engine hangs',
    );
    const pod = context.world.get<Pod>(POD_RESOURCE, owner.namespace, owner.name);
    if (pod?.metadata.uid !== owner.uid) return;
    const message = `error determining status: the container engine does not answer for container ${name}; it is left as it was last known, and none is started in its place`;
    context.record(pod, 'Warning', 'FailedSync', message);
  }

  #enqueueAll(enqueue: (pod: { namespace: string; name: string }) => void): void {
    const context = this.#context;
    if (context === undefined) return;
    for (const container of context.cache.all()) {
      const namespace = container.labels['reckon.dev/pod-namespace'];
      const name = container.labels['reckon.dev/pod-name'];
      if (namespace !== undefined && name !== undefined) enqueue({ namespace, name });
    }
    for (const pod of this.#operations?.folders.values() ?? []) enqueue(pod);
    for (const pod of context.world.list<Pod>(POD_RESOURCE)) {
      if (specOf(pod).nodeName === context.nodeName)
        enqueue({ namespace: pod.metadata.namespace ?? '', name: pod.metadata.name });
    }
  }

  *#podsReferringTo(kind: 'configMaps' | 'secrets' | 'claims', namespace: string, name: string): Iterable<ObjectKey> {
    const context = this.#context;
    if (context === undefined) return;
    for (const pod of context.world.list<Pod>(POD_RESOURCE, { namespace })) {
      if (specOf(pod).nodeName === context.nodeName && referredNames(pod)[kind].has(name))
        yield podKey(namespace, pod.metadata.name);
    }
  }
}

function podKey(namespace: string, name: string): ObjectKey {
  return { group: '', resource: 'pods', namespace, name };
}

/** A device name has at most fifteen characters. */
export function bridgeName(instance: string): string {
  return `rk-${instance.replaceAll(/[^a-zA-Z0-9]/g, '').slice(0, 12)}`;
}

export function gatewayOf(cidr: string): string {
  const parts = (cidr.split('/')[0] ?? '').split('.').map(Number);
  parts[3] = (parts[3] ?? 0) + 1;
  return parts.join('.');
}
