/** Whether the caller may see an object other than the one that the request names: a chain of causes leads to many. */
import type { ObjectKey } from '../../event-log/event-log.ts';
import type { Call } from '../call.ts';

/** Whoever may `get` an object may see its past; nobody else. */
export function mayRead({ services, identity }: Pick<Call, 'services' | 'identity'>, key: ObjectKey): boolean {
  const { group, resource, name } = key;
  const namespace = group === '' && resource === 'namespaces' ? name : key.namespace;
  const attributes = { verb: 'get', group, resource, subresource: '', namespace, name };
  return services.authorizer.decide(identity, attributes).allowed;
}
