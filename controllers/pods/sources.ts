/** Gathers what a pod refers to: from the World, and Secrets, which lie sealed in the log, over the API. Used by observe.ts and by the agent's operations. */
import type {
  ConfigMap,
  PersistentVolume,
  PersistentVolumeClaim,
  Secret,
  Service,
} from '../../api-schemas/types/core-v1.ts';
import type { Client } from '../../sdk/client.ts';
import { ApiError } from '../../sdk/client.ts';
import type { World } from '../../sdk/world.ts';
import type { Pod } from './observation.ts';
import { specOf } from './pod-shape.ts';
import { referredNames, type References } from './references.ts';
import type { PodTokens } from './tokens.ts';

const core = (resource: string): { group: string; version: string; resource: string } => ({
  group: '',
  version: 'v1',
  resource,
});
export const CONFIG_MAPS = core('configmaps');
export const SECRETS = core('secrets');
export const CLAIMS = core('persistentvolumeclaims');
export const VOLUMES = core('persistentvolumes');
export const SERVICES = core('services');
export const NODES = core('nodes');

/** Opened Secrets that are remembered; the one used longest ago goes first. */
const MAX_SECRETS = 1_000;

export class Sources {
  readonly #world: World;
  readonly #client: Client;
  readonly #tokens: Pick<PodTokens, 'of'>;
  readonly #secrets = new Map<string, Secret>();

  constructor({ world, client, tokens }: { world: World; client: Client; tokens: Pick<PodTokens, 'of'> }) {
    this.#world = world;
    this.#client = client;
    this.#tokens = tokens;
  }

  async of(pod: Pod): Promise<References> {
    const world = this.#world;
    const namespace = pod.metadata.namespace ?? '';
    const names = referredNames(pod);
    const configMaps = new Map<string, ConfigMap | undefined>();
    for (const name of names.configMaps) configMaps.set(name, world.get<ConfigMap>(CONFIG_MAPS, namespace, name));
    const secrets = new Map<string, Secret | undefined>();
    for (const name of names.secrets) secrets.set(name, await this.#secret(namespace, name));
    const claims = new Map<string, PersistentVolumeClaim | undefined>();
    const volumes = new Map<string, PersistentVolume | undefined>();
    for (const name of names.claims) {
      const claim = world.get<PersistentVolumeClaim>(CLAIMS, namespace, name);
      claims.set(name, claim);
      if (claim?.spec?.volumeName !== undefined)
        volumes.set(name, world.get<PersistentVolume>(VOLUMES, '', claim.spec.volumeName));
    }
    const linked = specOf(pod).enableServiceLinks !== false;
    const services = linked ? world.list<Service>(SERVICES, { namespace }) : [];
    // Where the API server is, every pod is told.
    const kubernetes = world.get<Service>(SERVICES, 'default', 'kubernetes');
    const others = services.filter(({ metadata }) => metadata.uid !== kubernetes?.metadata.uid);
    return {
      configMaps,
      secrets,
      claims,
      volumes,
      services: kubernetes === undefined ? others : [kubernetes, ...others],
      tokens: await this.#tokens.of(pod),
    };
  }

  /** Those that images of the pod may be pulled with; the names of those that are not there beside them. */
  async pullSecrets(pod: Pod): Promise<{ secrets: readonly Secret[]; missing: readonly string[] }> {
    const secrets: Secret[] = [];
    const missing: string[] = [];
    for (const { name = '' } of specOf(pod).imagePullSecrets ?? []) {
      const secret = await this.#secret(pod.metadata.namespace ?? '', name);
      if (secret === undefined) missing.push(name);
      else secrets.push(secret);
    }
    return { secrets, missing };
  }

  /** Read once for each version that the World knows of. While the API server is away the last known version stands in. */
  async #secret(namespace: string, name: string): Promise<Secret | undefined> {
    const key = `${namespace}/${name}`;
    const seen = this.#world.get(SECRETS, namespace, name);
    if (seen === undefined) {
      this.#secrets.delete(key);
      return undefined;
    }
    const known = this.#secrets.get(key);
    const isCurrent =
      known?.metadata.uid === seen.metadata.uid &&
      Number(known?.metadata.resourceVersion ?? 0) >= Number(seen.metadata.resourceVersion ?? 0);
    if (isCurrent) return known;
    try {
      const secret = await this.#client.get<Secret>({ resource: SECRETS, namespace, name });
      this.#secrets.delete(key);
      this.#secrets.set(key, secret);
      const [oldest] = this.#secrets.keys();
      if (this.#secrets.size > MAX_SECRETS && oldest !== undefined) this.#secrets.delete(oldest);
      return secret;
    } catch (error) {
      if (error instanceof ApiError && error.code === 404) return undefined;
      if (known !== undefined) return known;
      throw error;
    }
  }
}
