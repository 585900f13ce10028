/**
 * Who a request comes from. The user becomes the actor of every record; roles are given to users, groups and service accounts. Made by `authenticator.ts`, asked about by `authorization/`.
 */

export interface Identity {
  readonly user: string;
  readonly groups: readonly string[];
  readonly uid?: string;
  readonly extra?: Readonly<Record<string, readonly string[]>>;
  /** Who really asked, where the headers asked to be taken for somebody else. */
  readonly impersonator?: string;
}

/** May do everything, whatever the roles say. */
export const ADMINISTRATORS = 'system:masters';
export const AUTHENTICATED = 'system:authenticated';
export const UNAUTHENTICATED = 'system:unauthenticated';
export const NODES = 'system:nodes';
export const SERVICE_ACCOUNTS = 'system:serviceaccounts';

/** Who shows nothing. */
export const ANONYMOUS: Identity = { user: 'system:anonymous', groups: [UNAUTHENTICATED] };

const NODE_USER = 'system:node:';
const SERVICE_ACCOUNT_USER = 'system:serviceaccount:';

/** The node whose agent this is; undefined for everybody else. */
export const nodeOf = ({ user, groups }: Identity): string | undefined =>
  user.startsWith(NODE_USER) && groups.includes(NODES) ? user.slice(NODE_USER.length) : undefined;

export const serviceAccountUser = (namespace: string, name: string): string =>
  `${SERVICE_ACCOUNT_USER}${namespace}:${name}`;

/** Undefined where the user is no service account. */
export function serviceAccountOf(user: string): { namespace: string; name: string } | undefined {
  if (!user.startsWith(SERVICE_ACCOUNT_USER)) return undefined;
  const [namespace, name, ...rest] = user.slice(SERVICE_ACCOUNT_USER.length).split(':');
  return namespace && name && rest.length === 0 ? { namespace, name } : undefined;
}

/** The groups of every service account of a namespace. */
export const serviceAccountGroups = (namespace: string): string[] => [
  SERVICE_ACCOUNTS,
  `${SERVICE_ACCOUNTS}:${namespace}`,
  AUTHENTICATED,
];
