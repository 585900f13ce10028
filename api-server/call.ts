/**
 * One request on its way through the verbs: who asks, for what, and what the server offers to answer it with. Made by `server.ts`.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Logger } from 'pino';
import type { Registry } from '../api-schemas/registry.ts';
import type { ApiObject, ResourceDefinition } from '../api-schemas/schema.ts';
import type { LogReader, ObjectKey, Reason } from '../event-log/event-log.ts';
import type { RuntimeState } from '../state/runtime-state.ts';
import type { Identity } from './authentication/identity.ts';
import type { ServiceAccountTokens } from './authentication/service-account-tokens.ts';
import type { Authorizer } from './authorization/authorizer.ts';
import type { ConsumerRoom } from './consumers/keeper.ts';
import { managerName } from './patch/managed-fields.ts';
import type { ResourceRequest } from './request.ts';
import type { Provenance, Store } from './store/object-store.ts';
import type { Past } from './store/past.ts';
import type { Kinds } from './strategy/kinds.ts';
import type { NodeConnections } from './subresources/node-connections.ts';

/** What every verb may use; one for the life of the server. */
export interface Services {
  readonly registry: Registry;
  readonly store: Store;
  /** Reads at past revisions. Undefined when the server runs without PostgreSQL. */
  readonly past: Past | undefined;
  /** What the agents have observed. Undefined when the server runs without PostgreSQL. */
  readonly runtime?: RuntimeState | undefined;
  readonly kinds: Kinds;
  readonly nodes: NodeConnections;
  readonly authorizer: Authorizer;
  readonly tokens: ServiceAccountTokens;
  /** The log itself, record by record. */
  readonly events: Pick<LogReader, 'follow' | 'floor'> & { unseal(object: ApiObject): Promise<void> };
  /** Credentials of event consumers. Undefined where NATS knows its users by name. */
  readonly consumers?: ConsumerRoom | undefined;
  /** Whether pods must have a ServiceAccount that is there, and get its token. */
  readonly demandsServiceAccounts: boolean;
  readonly logger: Logger;
}

export interface Call {
  readonly services: Services;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly query: URLSearchParams;
  readonly target: ResourceRequest;
  /** Of what is stored: what the verbs deal with. */
  readonly definition: ResourceDefinition;
  /** The shape that the client speaks, where it is another: see `conversion/`. */
  readonly spoken?: ResourceDefinition;
  readonly identity: Identity;
  readonly requestId: string;
  /** Sequences that this request answers to, from the `Reckon-Cause` header. */
  readonly causes: readonly number[];
  /** Why it is made, from `Reckon-Because` and `Reckon-Source`. */
  readonly reason?: Reason;
  /** The moment that is read: ages are told from there. Absent: now. */
  readonly asOfMs?: number;
  /** Aborted when the client has gone or the server stops. */
  readonly signal: AbortSignal;
}

/** The definition of the shape that the client speaks. */
export const spokenIn = ({ spoken, definition }: Pick<Call, 'definition' | 'spoken'>): ResourceDefinition =>
  spoken ?? definition;

/** The same call, as answers are written to it. */
export const asSpoken = (call: Call): Call => (call.spoken ? { ...call, definition: call.spoken } : call);

/** What a body must be: a kind, and the schema of it. */
export type KindSchema = Pick<ResourceDefinition, 'group' | 'version' | 'kind' | 'schema' | 'custom'> & {
  /** Of the same shape, and taken for `version`. */
  readonly earlierVersions?: readonly string[];
};

/** `apps/v1`, or `v1` in the core group. */
export const apiVersionOf = ({ group, version }: Pick<ResourceDefinition, 'group' | 'version'>): string =>
  group === '' ? version : `${group}/${version}`;

/** The key of an object of the call's resource. */
export function keyOf(call: Pick<Call, 'definition' | 'target'>, name: string = call.target.name): ObjectKey {
  const { group, resource, namespaced } = call.definition;
  return { group, resource, namespace: namespaced ? call.target.namespace : '', name };
}

/** Who writes, as it stands in the record. */
export const provenance = ({ identity, requestId, causes, reason }: Call): Provenance => ({
  actor: identity.user,
  requestId,
  causes,
  ...(reason && { reason }),
});

export const isDryRun = (call: Pick<Call, 'query'>): boolean => call.query.getAll('dryRun').includes('All');

/** The name under which the client owns the fields it sets. */
export const managerOf = (call: Pick<Call, 'query' | 'request'>): string =>
  managerName(call.query.get('fieldManager') ?? undefined, call.request.headers['user-agent']);
