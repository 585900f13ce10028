/**
 * The SDK's public face: what `import … from 'reckon/sdk'` gives. Built-in controllers are written with exactly this; docs/writing-a-controller.md is the tour.
 */
export type * as ApiextensionsV1 from '../api-schemas/types/apiextensions-v1.ts';
export type * as AppsV1 from '../api-schemas/types/apps-v1.ts';
export type * as BatchV1 from '../api-schemas/types/batch-v1.ts';
export type * as CoreV1 from '../api-schemas/types/core-v1.ts';
export type * as DiscoveryV1 from '../api-schemas/types/discovery-v1.ts';
export type * as MetaV1 from '../api-schemas/types/meta-v1.ts';
export type * as NetworkingV1 from '../api-schemas/types/networking-v1.ts';
export type * as StorageV1 from '../api-schemas/types/storage-v1.ts';
export type { ApiObject, ObjectMetadata, OwnerReference } from '../api-schemas/schema.ts';
export type { ObjectKey } from '../event-log/event-log.ts';
export {
  ApiError,
  ApiUnreachableError,
  type Client,
  type DeleteOptions,
  type Target,
  type WriteOptions,
} from './client.ts';
export {
  type ActionEvent,
  type ActionFailure,
  type ApiAction,
  type ApplyContext,
  type Controller,
  type Observation,
  type Plan,
  type ResourceRef,
  type StartContext,
  TerminalError,
  type Watch,
} from './controller.ts';
export { CUSTOM_RESOURCE_DEFINITIONS, isCustomNamespaced, resourceOf } from './custom-kinds.ts';
export { HttpClient } from './http-client.ts';
export { type ApiAccess, readKubeconfig } from './kubeconfig.ts';
export { isEmptySelector, matchesSelector } from './label-selector.ts';
export { KUBERNETES_LEASE_TIMES, type LeaseTimes } from './leader.ts';
export { createLogger, type Logger } from './logger.ts';
export { metricsRegistry } from './metrics.ts';
export { deterministicName, deterministicSuffix } from './naming.ts';
export { matchesNodeSelector, matchesNodeSelectorTerm } from './node-selector.ts';
export { controllerKeys, controllerOf, controllerReference, groupOf, keyIn, watchOwned } from './owners.ts';
export { runControllers, type OpenLogs, type RunningControllers, type RunOptions } from './run.ts';
export { openRuntimeState, type RuntimeState } from '../state/runtime-state.ts';
export { canonicalJson, sameJson } from './same-json.ts';
export { conditionHolds, conditionOf } from '../api-schemas/conditions.ts';
export { milliseconds, timestamp } from '../api-schemas/timestamps.ts';
export { EVERY_RESOURCE, type LabelSelector, type ListOptions, type World } from './world.ts';
