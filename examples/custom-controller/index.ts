/**
 * A whole custom controller: when a ConfigMap changes, the Deployments that use it roll out anew. It minds only Deployments that ask for it with the label `reload: on-config-change`.
 *
 *     reckon run dist/examples/custom-controller/index.js
 *
 * docs/writing-a-controller.md goes through it line by line.
 */
import {
  type ApiAction,
  type AppsV1,
  type Controller,
  type CoreV1,
  canonicalJson,
  deterministicSuffix,
  keyIn,
  type ObjectKey,
  type Observation,
  type Plan,
  type World,
} from '../../sdk/index.ts';

const DEPLOYMENTS = { group: 'apps', version: 'v1', resource: 'deployments' };
const CONFIG_MAPS = { group: '', version: 'v1', resource: 'configmaps' };

const LABEL = 'reload';
const ANNOTATION = 'example.com/config-hash';

/** What is there: the ConfigMaps that the pods use, by name; undefined where there is none of that name yet. */
export interface Observed {
  readonly configMaps: ReadonlyMap<string, CoreV1.ConfigMap | undefined>;
}

export const controller: Controller<AppsV1.Deployment, Observed> = {
  name: 'config-reloads',
  resource: DEPLOYMENTS,
  watches: [
    {
      resource: CONFIG_MAPS,
      keysFor: (configMap, _previous, world) =>
        usersOf(configMap.metadata.name, configMap.metadata.namespace ?? '', world),
    },
  ],
  observe,
  reconcile,
};

/** Reads the present. Called for a key, whatever has happened to it or to what it uses. */
function observe(key: ObjectKey, world: World): Observation<AppsV1.Deployment, Observed> | undefined {
  const desired = world.get<AppsV1.Deployment>(DEPLOYMENTS, key.namespace, key.name);
  if (!desired || desired.metadata.labels?.[LABEL] !== 'on-config-change') return undefined;
  const names = configMapsOf(desired);
  return {
    desired,
    observed: {
      configMaps: new Map(names.map((name) => [name, world.get<CoreV1.ConfigMap>(CONFIG_MAPS, key.namespace, name)])),
    },
  };
}

/** Decides. Pure: the same look gives the same plan. */
export function reconcile(deployment: AppsV1.Deployment, { configMaps }: Observed): Plan<ApiAction> {
  if (deployment.metadata.deletionTimestamp || configMaps.size === 0) return { actions: [] };
  const hash = deterministicSuffix(
    [...configMaps]
      .sort(([left], [right]) => (left < right ? -1 : 1))
      .map(([name, { data, binaryData } = {}]) => canonicalJson([name, data, binaryData])),
    10,
  );
  const standing = deployment.spec.template.metadata?.annotations?.[ANNOTATION];
  if (standing === hash) return { actions: [] };
  const { name, namespace = '', uid } = deployment.metadata;
  return {
    actions: [
      {
        verb: 'patch',
        resource: DEPLOYMENTS,
        namespace,
        name,
        patch: { metadata: { uid }, spec: { template: { metadata: { annotations: { [ANNOTATION]: hash } } } } },
        because: `the pods of Deployment ${name} were made with another state of ${[...configMaps.keys()].join(', ')}`,
        event: {
          about: deployment,
          type: 'Normal',
          reason: 'ConfigChanged',
          message: `Rolling out with the present ${[...configMaps.keys()].join(', ')}`,
        },
      },
    ],
  };
}

/** The ConfigMaps that a Deployment's pods mount or take their environment from. */
function configMapsOf(deployment: AppsV1.Deployment): string[] {
  const { containers = [], initContainers = [], volumes = [] } = deployment.spec.template.spec ?? {};
  const names = new Set<string | undefined>(volumes.map((volume) => volume.configMap?.name));
  for (const { env = [], envFrom = [] } of [...containers, ...initContainers]) {
    for (const source of envFrom) names.add(source.configMapRef?.name);
    for (const variable of env) names.add(variable.valueFrom?.configMapKeyRef?.name);
  }
  return [...names].filter((name) => name !== undefined);
}

/** Which of our keys a ConfigMap concerns. */
function usersOf(name: string, namespace: string, world: World): ObjectKey[] {
  return world
    .list<AppsV1.Deployment>(DEPLOYMENTS, { namespace, selector: { matchLabels: { [LABEL]: 'on-config-change' } } })
    .filter((deployment) => configMapsOf(deployment).includes(name))
    .map((deployment) => keyIn(DEPLOYMENTS, namespace, deployment.metadata.name));
}
