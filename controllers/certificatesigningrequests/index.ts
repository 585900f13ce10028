/**
 * CertificateSigningRequests: signs what is approved with the key of the cluster's authority, and removes what is old. Runs wherever that key lies (`pki/ca.key` of the instance); elsewhere it only removes.
 */
import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { BACKDATE_MS, leafCertificate, type Usage } from '../../pki/certificate.ts';
import { readSigningRequest } from '../../pki/signing-request.ts';
import { runControllers, timestamp, type ApiAction, type Controller, type Logger } from '../../sdk/index.ts';
import { reconcile, REQUESTS, type Observed, type Request, type SignAction } from './reconcile.ts';

/** What `reckon run certificatesigningrequests` hands over. */
export interface SigningContext {
  readonly home: string;
  readonly kubeconfig: string;
  readonly natsUrl: string;
  readonly logger: Logger;
}

export interface Authority {
  /** PEM. */
  readonly cert: string;
  readonly key: KeyObject;
}

/** Where the request does not say. */
const YEAR_SECONDS = 365 * 24 * 3600;

/** The certificate that the request is given, in PEM. It never outlives the authority. */
export function issue({ spec }: Request, authority: Authority, nowMs: number): string {
  const asked = readSigningRequest(Buffer.from(spec.request, 'base64').toString('latin1'));
  const authorityEndsMs = Date.parse(new X509Certificate(authority.cert).validTo);
  const lifetimeMs = (spec.expirationSeconds ?? YEAR_SECONDS) * 1000;
  return leafCertificate(authority, {
    subject: asked.subject,
    hosts: [...asked.dnsNames, ...asked.addresses],
    publicKey: asked.publicKey,
    usages: (spec.usages ?? []) as readonly Usage[],
    notBeforeMs: nowMs - BACKDATE_MS,
    notAfterMs: Math.min(nowMs + lifetimeMs, authorityEndsMs),
  });
}

function endOf(certificate: string | undefined): number | undefined {
  if (!certificate) return undefined;
  try {
    return Date.parse(new X509Certificate(Buffer.from(certificate, 'base64')).validTo);
  } catch {
    // Another signer's, in a form that is not ours to judge.
    return undefined;
  }
}

export function makeController(
  authority: Authority | undefined,
): Controller<Request, Observed, ApiAction | SignAction> {
  return {
    name: 'certificatesigningrequests',
    resource: REQUESTS,
    watches: [],
    observe(key, world, nowMs) {
      const request = world.get<Request>(REQUESTS, '', key.name);
      if (!request) return undefined;
      const certificateEndsAtMs = endOf(request.status?.certificate);
      return {
        desired: request,
        observed: { nowMs, now: timestamp(nowMs), certificateEndsAtMs, canSign: authority !== undefined },
      };
    },
    reconcile,
    async apply({ request }, { client }) {
      if (!authority) return;
      const certificate = Buffer.from(issue(request, authority, Date.now())).toString('base64');
      await client.update(
        REQUESTS,
        { ...request, status: { ...request.status, certificate } },
        { subresource: 'status', because: `it was approved` },
      );
    },
  };
}

async function readAuthority(home: string, logger: Logger): Promise<Authority | undefined> {
  try {
    const [cert, key] = await Promise.all(
      ['ca.crt', 'ca.key'].map((file) => readFile(path.join(home, 'pki', file), 'utf8')),
    );
    return { cert: cert ?? '', key: createPrivateKey(key ?? '') };
  } catch (error) {
    logger.warn({ err: error }, 'the key of the authority is not here: certificates are not signed by this process');
    return undefined;
  }
}

export async function start({ home, kubeconfig, natsUrl, logger }: SigningContext): Promise<{ stop(): Promise<void> }> {
  const authority = await readAuthority(home, logger);
  return runControllers([makeController(authority)], { kubeconfig, natsUrl, logger });
}
