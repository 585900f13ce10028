/**
 * Tokens of service accounts: signed statements (JWT, ES256) of which account a bearer is, until when, towards whom, and with which pod or secret it ends. Issued by
 * `subresources/token.ts`, believed by `authenticator.ts` for as long as what they name still stands. https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/#bound-service-account-tokens
 */
import { randomUUID, sign, verify } from 'node:crypto';
import type { Registry } from '../../api-schemas/registry.ts';
import { entryId } from '../store/entry.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { serviceAccountGroups, serviceAccountUser, type Identity } from './identity.ts';
import { readTokenKeys, type TokenKeys } from './token-keys.ts';

export const ISSUER = 'https://kubernetes.default.svc.cluster.local';
const KEYS_PATH = '/openid/v1/jwks';
const CLAIMS = 'kubernetes.io';
/** A verified signature is remembered: checking one costs more than answering a small request. */
const MAX_REMEMBERED = 10_000;
const MAX_TOKEN_LENGTH = 16 * 1024;

interface Named {
  readonly name: string;
  readonly uid: string;
}

/** Without a uid where the object of the node was not there when the token was issued. */
interface BoundNode {
  readonly name: string;
  readonly uid?: string;
}

interface Claims {
  readonly iss: string;
  readonly sub: string;
  readonly aud: readonly string[];
  readonly exp: number;
  readonly iat: number;
  readonly nbf: number;
  readonly jti: string;
  readonly [CLAIMS]: {
    readonly namespace: string;
    readonly serviceaccount: Named;
    readonly pod?: Named;
    readonly secret?: Named;
    readonly node?: BoundNode;
  };
}

/** What a token ends with, beside its account. */
export interface Bound {
  readonly kind: 'Pod' | 'Secret' | 'Node';
  readonly name: string;
  readonly uid: string;
  /** Of the pod, where it is there. */
  readonly node?: BoundNode;
}

export type Verified =
  { readonly identity: Identity; readonly audiences: readonly string[] } | { readonly fault: string };

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
const seconds = (): number => Math.floor(Date.now() / 1000);

export class ServiceAccountTokens {
  #keys: TokenKeys;
  readonly #registry: Registry;
  readonly #store: ObjectStore;
  readonly #signed = new Map<string, Claims>();

  /** `keys`: as `token-keys.ts` reads them, the same for every API server of the cluster. Throws where it cannot. */
  constructor(options: { keys: string; registry: Registry; store: ObjectStore }) {
    this.#keys = readTokenKeys(options.keys);
    this.#registry = options.registry;
    this.#store = options.store;
  }

  /** Others from now on: what only a key signed that is gone is believed no more. Throws, and changes nothing, where they cannot be read. */
  use(keys: string): void {
    this.#keys = readTokenKeys(keys);
    this.#signed.clear();
  }

  /** What others need to believe the tokens without asking. https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#service-account-issuer-discovery */
  document(path: string): { readonly value: unknown; readonly contentType: string } | undefined {
    switch (path.replace(/\/$/, '')) {
      case '/.well-known/openid-configuration':
        return {
          contentType: 'application/json',
          value: {
            issuer: ISSUER,
            jwks_uri: `${ISSUER}${KEYS_PATH}`,
            response_types_supported: ['id_token'],
            subject_types_supported: ['public'],
            id_token_signing_alg_values_supported: ['ES256'],
          },
        };
      case KEYS_PATH: {
        const keys = [...this.#keys.verifying.values()].map((key) => ({
          use: 'sig',
          ...key.public.export({ format: 'jwk' }),
          kid: key.id,
          alg: 'ES256',
        }));
        return { contentType: 'application/jwk-set+json', value: { keys } };
      }
      default:
        return undefined;
    }
  }

  issue(options: {
    namespace: string;
    account: Named;
    audiences: readonly string[];
    lifetimeSeconds: number;
    bound?: Bound;
  }): { token: string; expiresAtMs: number } {
    const { namespace, account, audiences, lifetimeSeconds, bound } = options;
    const now = seconds();
    const claims: Claims = {
      iss: ISSUER,
      sub: serviceAccountUser(namespace, account.name),
      aud: audiences.length > 0 ? audiences : [ISSUER],
      exp: now + lifetimeSeconds,
      iat: now,
      nbf: now,
      jti: randomUUID(),
      [CLAIMS]: {
        namespace,
        serviceaccount: { name: account.name, uid: account.uid },
        ...(bound?.kind === 'Pod' && { pod: { name: bound.name, uid: bound.uid } }),
        ...(bound?.kind === 'Secret' && { secret: { name: bound.name, uid: bound.uid } }),
        ...(bound?.kind === 'Node' && { node: { name: bound.name, uid: bound.uid } }),
        ...(bound?.node && { node: bound.node }),
      },
    };
    const head = `${encode({ alg: 'ES256', kid: this.#keys.signing.id })}.${encode(claims)}`;
    const signature = sign('sha256', Buffer.from(head), { key: this.#keys.signing.private, dsaEncoding: 'ieee-p1363' });
    return { token: `${head}.${signature.toString('base64url')}`, expiresAtMs: claims.exp * 1000 };
  }

  /** Who bears the token. `audiences`: of whom it must name one; default the API server itself. */
  verify(token: string, audiences: readonly string[] = [ISSUER]): Verified {
    const claims = this.#signed.get(token) ?? this.#check(token);
    if (!claims) return { fault: 'the token is not one of ours' };
    const now = seconds();
    if (claims.exp <= now) {
      this.#signed.delete(token);
      return { fault: 'service account token has expired' };
    }
    if (claims.nbf > now) return { fault: 'service account token is not valid yet' };
    const meant = audiences.filter((audience) => claims.aud.includes(audience));
    if (meant.length === 0) return { fault: `invalid bearer token: token audiences ${JSON.stringify(claims.aud)}` };
    const { namespace, serviceaccount, pod, secret, node } = claims[CLAIMS];
    const standing: [resource: string, named: BoundNode | undefined, namespace: string][] = [
      ['serviceaccounts', serviceaccount, namespace],
      ['pods', pod, namespace],
      ['secrets', secret, namespace],
      // A pod that stands speaks for itself, whatever became of the object of its node.
      ['nodes', pod ? undefined : node, ''],
    ];
    for (const [resource, named, where] of standing) {
      if (named && !this.#stands(resource, where, named))
        return { fault: `service account token has been invalidated: ${resource} ${named.name} is gone` };
    }
    const identity: Identity = {
      user: serviceAccountUser(namespace, serviceaccount.name),
      uid: serviceaccount.uid,
      groups: serviceAccountGroups(namespace),
      extra: {
        'authentication.kubernetes.io/credential-id': [`JTI=${claims.jti}`],
        ...(pod && {
          'authentication.kubernetes.io/pod-name': [pod.name],
          'authentication.kubernetes.io/pod-uid': [pod.uid],
        }),
        ...(node && {
          'authentication.kubernetes.io/node-name': [node.name],
          ...(node.uid && { 'authentication.kubernetes.io/node-uid': [node.uid] }),
        }),
      },
    };
    return { identity, audiences: meant };
  }

  #stands(resource: string, namespace: string, { name, uid }: BoundNode): boolean {
    const definition = this.#registry.byResource('', 'v1', resource);
    return definition !== undefined && this.#store.cache(definition).get(entryId({ namespace, name }))?.uid === uid;
  }

  /** Signed by us, whatever it says. */
  #check(token: string): Claims | undefined {
    const [header, payload, signature, ...rest] = token.length > MAX_TOKEN_LENGTH ? [] : token.split('.');
    if (!header || !payload || !signature || rest.length > 0) return undefined;
    try {
      const { alg, kid } = JSON.parse(Buffer.from(header, 'base64url').toString()) as { alg?: string; kid?: string };
      const known = this.#keys.verifying.get(kid ?? '');
      if (alg !== 'ES256' || !known) return undefined;
      const key = { key: known.public, dsaEncoding: 'ieee-p1363' as const };
      const holds = verify('sha256', Buffer.from(`${header}.${payload}`), key, Buffer.from(signature, 'base64url'));
      if (!holds) return undefined;
      const claims = JSON.parse(Buffer.from(payload, 'base64url').toString()) as Claims;
      if (claims.iss !== ISSUER) return undefined;
      this.#signed.set(token, claims);
      const [oldest] = this.#signed.keys();
      if (this.#signed.size > MAX_REMEMBERED && oldest !== undefined) this.#signed.delete(oldest);
      return claims;
    } catch {
      return undefined;
    }
  }
}
