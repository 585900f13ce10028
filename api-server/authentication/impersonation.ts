/**
 * Acting as somebody else: headers name the user, groups, uid and extra that a request is to be taken for, and the caller must be allowed to impersonate each of them. Called by `server.ts`.
 * https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation
 */
import type { IncomingMessage } from 'node:http';
import type { Attributes } from '../authorization/attributes.ts';
import type { Authorizer } from '../authorization/authorizer.ts';
import { badRequest } from '../errors.ts';
import {
  ANONYMOUS,
  AUTHENTICATED,
  serviceAccountGroups,
  serviceAccountOf,
  UNAUTHENTICATED,
  type Identity,
} from './identity.ts';

const USER = 'impersonate-user';
const GROUP = 'impersonate-group';
const UID = 'impersonate-uid';
const EXTRA = 'impersonate-extra-';

/** The identity that the request goes on under. Throws BadRequest and Forbidden. */
export function impersonate(real: Identity, request: IncomingMessage, authorizer: Authorizer): Identity {
  if (!Object.keys(request.headers).some((name) => name.startsWith('impersonate-'))) return real;
  const headers = request.headersDistinct;
  const user = headers[USER]?.[0] ?? '';
  const groups = headers[GROUP] ?? [];
  const uid = headers[UID]?.[0];
  const extra = extraOf(headers);
  if (user === '') throw badRequest('the request asks for impersonation without naming a user in Impersonate-User');

  const account = serviceAccountOf(user);
  const need = (attributes: Partial<Attributes>) =>
    authorizer.require(real, {
      verb: 'impersonate',
      group: '',
      resource: '',
      subresource: '',
      namespace: '',
      name: '',
      ...attributes,
    });
  if (account) need({ resource: 'serviceaccounts', ...account });
  else need({ resource: 'users', name: user });
  for (const name of groups) need({ resource: 'groups', name });
  if (uid !== undefined) need({ group: 'authentication.k8s.io', resource: 'uids', name: uid });
  for (const [key, values] of Object.entries(extra))
    for (const name of values) need({ group: 'authentication.k8s.io', resource: 'userextras', subresource: key, name });

  const own = groups.length === 0 && account ? serviceAccountGroups(account.namespace) : groups;
  // Who is to be one who shows nothing is not one who has shown something.
  const known = groups.includes(UNAUTHENTICATED) ? [] : [AUTHENTICATED];
  const everybody = user === ANONYMOUS.user ? ANONYMOUS.groups : known;
  return {
    user,
    groups: [...new Set([...own, ...everybody])],
    ...(uid !== undefined && { uid }),
    ...(Object.keys(extra).length > 0 && { extra }),
    impersonator: real.user,
  };
}

function extraOf(headers: NodeJS.Dict<string[]>): Record<string, readonly string[]> {
  const extra: Record<string, readonly string[]> = {};
  for (const [name, values] of Object.entries(headers)) {
    if (!name.startsWith(EXTRA) || !values) continue;
    try {
      extra[decodeURIComponent(name.slice(EXTRA.length))] = values;
    } catch (cause) {
      throw badRequest(`the header ${name} holds a malformed escape`, { cause });
    }
  }
  return extra;
}
