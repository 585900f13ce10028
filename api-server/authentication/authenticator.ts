/**
 * Who is asking: by the client certificate that the cluster's CA signed (its common name the user, its organizations the groups), else by a service account's token, else nobody in particular.
 * Called by `server.ts` for every request. https://kubernetes.io/docs/reference/access-authn-authz/authentication/
 */
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { unauthorized } from '../errors.ts';
import { ANONYMOUS, AUTHENTICATED, type Identity } from './identity.ts';
import type { ServiceAccountTokens } from './service-account-tokens.ts';

/** A connection's certificate does not change, and reading it costs as much as a small request. Null: none was shown. */
const known = new WeakMap<TLSSocket, Identity | null>();

const BEARER = /^Bearer +(\S+)$/i;

/** Throws Unauthorized where what is shown is not to be believed; showing nothing is being anonymous. */
export function authenticate(request: IncomingMessage, tokens: ServiceAccountTokens): Identity {
  const socket = request.socket as TLSSocket;
  let identity = known.get(socket);
  if (identity === undefined) known.set(socket, (identity = identityOf(socket)));
  if (identity) return identity;
  const { authorization } = request.headers;
  if (authorization === undefined) return ANONYMOUS;
  const token = BEARER.exec(authorization)?.[1];
  const answer = token === undefined ? undefined : tokens.verify(token);
  if (!answer || 'fault' in answer) throw unauthorized();
  return answer.identity;
}

function identityOf(socket: TLSSocket): Identity | null {
  const { subject } = socket.getPeerCertificate() as { subject?: { CN?: string; O?: string | string[] } };
  if (!subject) return null;
  if (!socket.authorized || !subject.CN) throw unauthorized();
  const organizations = subject.O === undefined ? [] : Array.isArray(subject.O) ? subject.O : [subject.O];
  return { user: subject.CN, groups: [...organizations, AUTHENTICATED] };
}
