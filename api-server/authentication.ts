/**
 * Who is asking: a client certificate signed by the cluster's CA, its common name the user and its organizations the groups
 * (https://kubernetes.io/docs/reference/access-authn-authz/authentication/#x509-client-certificates). The user becomes the actor of every record.
 */
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';

export interface Identity {
  readonly user: string;
  readonly groups: readonly string[];
}

export const ADMINISTRATORS = 'system:masters';

/** Undefined when the client showed no certificate, or one that the cluster's CA did not sign. */
export function authenticate(request: IncomingMessage): Identity | undefined {
  const socket = request.socket as TLSSocket;
  if (!socket.authorized) return undefined;
  let identity = known.get(socket);
  if (!identity && (identity = identityOf(socket))) known.set(socket, identity);
  return identity;
}

/** A connection's certificate does not change, and reading it costs as much as a small request. */
const known = new WeakMap<TLSSocket, Identity>();

function identityOf(socket: TLSSocket): Identity | undefined {
  const subject = socket.getPeerCertificate().subject as { CN?: string; O?: string | string[] } | undefined;
  if (!subject?.CN) return undefined;
  const organizations = subject.O === undefined ? [] : Array.isArray(subject.O) ? subject.O : [subject.O];
  return { user: subject.CN, groups: [...organizations, 'system:authenticated'] };
}
