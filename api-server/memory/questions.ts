/**
 * The questions that only a log can answer, as paths of the group `log.reckon.dev`: `[namespaces/{ns}/]history|diff|why/{group|core}/{resource}/{name}` and `status`; and the writes that only a log can
 * make, `transactions` and `restores`. A question about an object is, to the server, a `get` of that object: whoever may do that may ask. Called by `server.ts`.
 */
import type { Registry } from '../../api-schemas/registry.ts';
import type { Call } from '../call.ts';
import { methodNotAllowed, noSuchPath } from '../errors.ts';
import type { ResourceRequest } from '../request.ts';
import { areaDiff } from './area-diff.ts';
import { diff, history } from './history.ts';
import { events } from '../events/event-stream.ts';
import { restores } from '../restore/endpoint.ts';
import { transactions } from '../transactions/endpoint.ts';
import { status } from './status.ts';
import { why } from './why.ts';

export const MEMORY_GROUP = 'log.reckon.dev';
const MEMORY_VERSION = 'v1';

export interface Question {
  /** What one must be allowed to do to be answered, unless `admits` says otherwise. */
  readonly target: ResourceRequest;
  readonly admits?: ResourceRequest;
  readonly answer: (call: Call) => Promise<void>;
}

const ABOUT_OBJECTS: Readonly<Record<string, Question['answer']>> = { history, diff, why };

/** Several writes at once. */
const CHANGES: Readonly<Record<string, Question['answer']>> = { restores, transactions };

/** Undefined for a request about anything else. Throws NotFound for a path of the group that is no question, and MethodNotAllowed for a write. */
export function questionOf(asked: ResourceRequest, registry: Registry): Question | undefined {
  if (asked.group !== MEMORY_GROUP || registry.byResource(asked.group, asked.version, asked.resource)) return undefined;
  if (asked.version !== MEMORY_VERSION) throw noSuchPath();
  const change = CHANGES[asked.resource];
  if (change && asked.name === '' && asked.namespace === '') {
    if (asked.verb !== 'create') throw methodNotAllowed(asked.verb);
    // Whoever is known may ask; each write in it is judged by itself.
    return { target: { ...asked, group: '', version: 'v1', resource: 'namespaces' }, admits: asked, answer: change };
  }
  if (asked.verb !== 'get' && asked.verb !== 'list') throw methodNotAllowed(asked.verb);
  if (asked.resource === 'status' && asked.name === '' && asked.namespace === '') {
    // Of the cluster, as its nodes are.
    return { target: { ...asked, verb: 'list', group: '', version: 'v1', resource: 'nodes' }, answer: status };
  }
  if (asked.resource === 'diff' && asked.name === '') {
    const namespaces = { group: '', version: 'v1', resource: 'namespaces' };
    // Everybody who is known may ask, and is told of what he may read.
    return { target: { ...asked, ...namespaces }, admits: asked, answer: areaDiff };
  }
  if (asked.resource === 'events' && asked.name === '') {
    // A watch of every kind that it names.
    return {
      target: { ...asked, verb: 'watch', group: '', version: 'v1', resource: 'namespaces' },
      admits: asked,
      answer: events,
    };
  }
  const answer = ABOUT_OBJECTS[asked.resource];
  const group = asked.name === 'core' ? '' : asked.name;
  const resource = asked.subresource;
  const name = asked.subpath.slice(1);
  const definition = registry.resources().find((each) => each.group === group && each.resource === resource);
  if (!answer || !definition || name === '' || name.includes('/')) throw noSuchPath();
  if (definition.namespaced !== (asked.namespace !== '')) throw noSuchPath();
  const { namespace } = asked;
  const { version } = definition;
  return {
    target: { verb: 'get', group, version, resource, namespace, name, subresource: '', subpath: '' },
    answer,
  };
}
