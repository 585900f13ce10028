/**
 * What a few kinds add to the generic path of a write: values that the server allocates or derives, and what holds an object back from ending. Everything that a schema can say stands in the
 * schema; a kind is listed here only where code is needed. Called by `verbs/write.ts` and `verbs/delete.ts`.
 */
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import { rbacKinds } from '../authorization/escalation.ts';
import type { Call } from '../call.ts';
import type { Queue } from '../store/turns.ts';
import { customResourceDefinitions } from './custom-resource-definitions.ts';
import { certificateSigningRequests } from './certificate-signing-requests.ts';
import { ingresses, priorityClasses } from './classes.ts';
import { daemonSets } from './daemon-sets.ts';
import { jobs } from './jobs.ts';
import { namespaces } from './namespaces.ts';
import { nodes } from './nodes.ts';
import { persistentVolumeClaims, persistentVolumes } from './persistent-volumes.ts';
import { pods } from './pods.ts';
import { secrets } from './secrets.ts';
import { serviceKind, type ServiceRanges } from './services.ts';

export interface Kind {
  /** Turns convenience fields into the stored ones. */
  beforeDefaults?(object: ApiObject, old: ApiObject | undefined): void;
  prepareCreate?(object: ApiObject, call: Call): void | Promise<void>;
  prepareUpdate?(object: ApiObject, old: ApiObject, call: Call): void | Promise<void>;
  /** What other objects of the cluster have to say about one that is valid in itself; `old` on update. Throws Forbidden. */
  admit?(object: ApiObject, old: ApiObject | undefined, call: Call): void | Promise<void>;
  /** The object has just been marked for deletion. */
  prepareDelete?(object: ApiObject): void;
  /** Seconds of grace for a deletion; `requested` is what the client asked for. Default 0. */
  gracePeriodSeconds?(object: ApiObject, requested: number | undefined): number;
  /** Throws where the object may not be deleted at all. */
  refuseDelete?(object: ApiObject, call: Call): void;
  /** What no two objects of the kind may share, and so is allocated under a lock. */
  readonly claims?: { of(object: ApiObject): readonly string[]; readonly queue: Queue };
  /** Holders beside `metadata.finalizers`. */
  finalizers?(object: ApiObject): readonly string[];
}

export interface Kinds {
  of(definition: Pick<ResourceDefinition, 'group' | 'resource'>): Kind;
}

const PLAIN: Kind = {};

export function makeKinds(options: { services: ServiceRanges }): Kinds {
  const kinds: Readonly<Record<string, Kind>> = {
    ...rbacKinds,
    'apiextensions.k8s.io/customresourcedefinitions': customResourceDefinitions,
    'apps/daemonsets': daemonSets,
    'batch/jobs': jobs,
    'certificates.k8s.io/certificatesigningrequests': certificateSigningRequests,
    'networking.k8s.io/ingresses': ingresses,
    'scheduling.k8s.io/priorityclasses': priorityClasses,
    '/namespaces': namespaces,
    '/nodes': nodes,
    '/persistentvolumeclaims': persistentVolumeClaims,
    '/persistentvolumes': persistentVolumes,
    '/pods': pods,
    '/secrets': secrets,
    '/services': serviceKind(options.services),
  };
  return { of: ({ group, resource }) => kinds[`${group}/${resource}`] ?? PLAIN };
}
