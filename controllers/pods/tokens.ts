/**
 * The service account tokens that pods have as files: asked for when a pod first needs one, bound to the pod, and had anew when four fifths of their time are over. Kept in memory only: after a restart of the agent every pod
 * gets a new one. Read by sources.ts. https://kubernetes.io/docs/concepts/storage/projected-volumes/#serviceaccounttoken
 */
import type { Pod, ServiceAccountTokenProjection } from '../../api-schemas/types/core-v1.ts';
import { isAway, type Client } from '../../sdk/client.ts';
import type { Logger } from '../../sdk/logger.ts';
import { specOf } from './pod-shape.ts';

const SERVICE_ACCOUNTS = { group: '', version: 'v1', resource: 'serviceaccounts' };
const DEFAULT_SECONDS = 3600;
const RENEW_AT = 0.8;
/** However long a token would last, it is not shown longer. */
const MAX_SHOWN_MS = 24 * 3600 * 1000;
const RETRY_MS = 10_000;
/** Where the API server was only away. */
const AWAY_RETRY_MS = 1_000;

interface Issued {
  readonly token: string;
  readonly expiresAtMs: number;
  readonly renewAtMs: number;
}

/** What a pod is shown: a token, or why there is none. */
export type PodToken = { readonly token: string; readonly renewAtMs: number } | { readonly fault: string };

export interface TokensOptions {
  readonly client: Client;
  readonly logger: Logger;
  readonly now: () => number;
}

/** Tells the tokens of one pod apart. */
export const tokenId = ({
  audience = '',
  expirationSeconds = DEFAULT_SECONDS,
}: ServiceAccountTokenProjection): string => `${expirationSeconds}/${audience}`;

/** The projections of a pod's volumes, each kind of token once. */
export function tokenProjections(pod: Pod): ServiceAccountTokenProjection[] {
  const all = (specOf(pod).volumes ?? []).flatMap(({ projected }) =>
    (projected?.sources ?? []).flatMap(({ serviceAccountToken }) => (serviceAccountToken ? [serviceAccountToken] : [])),
  );
  return [...new Map(all.map((each) => [tokenId(each), each])).values()];
}

export class PodTokens {
  readonly #options: TokensOptions;
  /** By uid of the pod, then the token's id. */
  readonly #issued = new Map<string, Map<string, Issued>>();
  readonly #asking = new Map<string, Promise<PodToken>>();
  readonly #failed = new Map<string, { readonly message: string; readonly untilMs: number }>();

  constructor(options: TokensOptions) {
    this.#options = options;
  }

  /** By the token's id. Never rejects: while none can be had anew, the old one stays as long as it lasts. */
  async of(pod: Pod): Promise<ReadonlyMap<string, PodToken>> {
    const projections = tokenProjections(pod);
    const tokens = await Promise.all(projections.map((projection) => this.#one(pod, projection)));
    return new Map(projections.map((projection, index) => [tokenId(projection), tokens[index] ?? { fault: '' }]));
  }

  forget(uid: string): void {
    this.#issued.delete(uid);
    for (const place of this.#failed.keys()) if (place.startsWith(`${uid}/`)) this.#failed.delete(place);
  }

  async #one(pod: Pod, projection: ServiceAccountTokenProjection): Promise<PodToken> {
    const uid = pod.metadata.uid ?? '';
    const id = tokenId(projection);
    const place = `${uid}/${id}`;
    const nowMs = this.#options.now();
    const standing = this.#issued.get(uid)?.get(id);
    if (standing && standing.renewAtMs > nowMs) return standing;
    const failure = this.#failed.get(place);
    if (failure && failure.untilMs > nowMs) return this.#stillGood(standing, failure);
    let asking = this.#asking.get(place);
    if (!asking) {
      asking = this.#ask(pod, projection, standing).finally(() => this.#asking.delete(place));
      this.#asking.set(place, asking);
    }
    return asking;
  }

  #stillGood(standing: Issued | undefined, failure: { message: string; untilMs: number }): PodToken {
    if (!standing || standing.expiresAtMs <= this.#options.now())
      return { fault: `failed to fetch token: ${failure.message}` };
    return { token: standing.token, renewAtMs: failure.untilMs };
  }

  async #ask(pod: Pod, projection: ServiceAccountTokenProjection, standing: Issued | undefined): Promise<PodToken> {
    const { client, logger, now } = this.#options;
    const { name, namespace = '', uid = '' } = pod.metadata;
    const account = specOf(pod).serviceAccountName ?? 'default';
    const place = `${uid}/${tokenId(projection)}`;
    const { audience, expirationSeconds = DEFAULT_SECONDS } = projection;
    try {
      const answer = await client.post(
        { resource: SERVICE_ACCOUNTS, namespace, name: account, subresource: 'token' },
        {
          apiVersion: 'authentication.k8s.io/v1',
          kind: 'TokenRequest',
          spec: {
            ...(audience && { audiences: [audience] }),
            expirationSeconds,
            boundObjectRef: { apiVersion: 'v1', kind: 'Pod', name, uid },
          },
        },
        { because: `the pod ${name} is to have a token of its ServiceAccount` },
      );
      const { token, expirationTimestamp } = answer['status'] as { token: string; expirationTimestamp: string };
      const issuedAtMs = now();
      const expiresAtMs = Date.parse(expirationTimestamp);
      const renewAtMs = issuedAtMs + Math.min(RENEW_AT * (expiresAtMs - issuedAtMs), MAX_SHOWN_MS);
      const issued: Issued = { token, expiresAtMs, renewAtMs };
      this.#issued.set(uid, (this.#issued.get(uid) ?? new Map<string, Issued>()).set(tokenId(projection), issued));
      this.#failed.delete(place);
      return issued;
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      const failure = { message, untilMs: now() + (isAway(error) ? AWAY_RETRY_MS : RETRY_MS) };
      logger.warn(
        { pod: `${namespace}/${name}`, account, err: error },
        'a token of a service account could not be had',
      );
      this.#failed.set(place, failure);
      return this.#stillGood(standing, failure);
    }
  }
}
