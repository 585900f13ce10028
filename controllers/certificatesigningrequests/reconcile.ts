/**
 * What becomes of one CertificateSigningRequest: signed once it is approved and is what its signer may sign, failed where it is not, removed when nobody needs it any more. Pure; called by the SDK's loop and by tests.
 * https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/
 */
import type { CertificateSigningRequest } from '../../api-schemas/types/certificates-v1.ts';
import { readSigningRequest, SigningRequestError } from '../../pki/signing-request.ts';
import { milliseconds, type ApiAction, type ApiObject, type Plan } from '../../sdk/index.ts';
import { signers } from './signers.ts';

export type Request = CertificateSigningRequest & ApiObject;

export const REQUESTS = { group: 'certificates.k8s.io', version: 'v1', resource: 'certificatesigningrequests' };

export interface SignAction {
  readonly verb: 'sign';
  readonly request: Request;
  readonly because: string;
}

export interface Observed {
  readonly nowMs: number;
  /** RFC 3339. */
  readonly now: string;
  /** When the certificate that it has been given ends; undefined when it has none. */
  readonly certificateEndsAtMs: number | undefined;
  /** Whether this process holds the authority's key. */
  readonly canSign: boolean;
}

const HOUR_MS = 3_600_000;
/** As Kubernetes keeps them. */
const KEPT_MS = { decided: HOUR_MS, pending: 24 * HOUR_MS };

export function reconcile(request: Request, observed: Observed): Plan<ApiAction | SignAction> {
  const { nowMs } = observed;
  const removal = removalOf(request, observed);
  if (removal.atMs <= nowMs) return { actions: [remove(request, removal.because)] };
  const requeueAfterMs = removal.atMs - nowMs;
  const types = (request.status?.conditions ?? []).map(({ type }) => type);
  const signer = signers.get(request.spec.signerName);
  const isDue = types.includes('Approved') && !types.includes('Denied') && !types.includes('Failed');
  if (!isDue || !signer || request.status?.certificate || !observed.canSign) return { actions: [], requeueAfterMs };
  const fault = faultOf(request);
  if (fault === undefined)
    return {
      actions: [{ verb: 'sign', request, because: `it is approved, and ${request.spec.signerName} signs here` }],
      requeueAfterMs,
    };
  const failed = {
    type: 'Failed',
    status: 'True',
    reason: 'SignerValidationFailure',
    message: fault,
    lastUpdateTime: observed.now,
    lastTransitionTime: observed.now,
  };
  const status = { ...request.status, conditions: [...(request.status?.conditions ?? []), failed] };
  return { actions: [], status, requeueAfterMs };
}

function faultOf({ spec }: Request): string | undefined {
  try {
    const asked = readSigningRequest(Buffer.from(spec.request, 'base64').toString('latin1'));
    return signers.get(spec.signerName)?.fault(asked, spec.usages ?? []);
  } catch (error) {
    if (error instanceof SigningRequestError) return error.message;
    throw error;
  }
}

function removalOf(request: Request, { certificateEndsAtMs }: Observed): { atMs: number; because: string } {
  const conditions = request.status?.conditions ?? [];
  const decided = conditions.find(({ type }) => type === 'Denied' || type === 'Failed' || type === 'Approved');
  const sinceMs = (time: string | undefined) => milliseconds(time ?? request.metadata.creationTimestamp) ?? Infinity;
  if (certificateEndsAtMs !== undefined && certificateEndsAtMs < sinceMs(decided?.lastUpdateTime) + KEPT_MS.decided)
    return { atMs: certificateEndsAtMs, because: 'its certificate has ended' };
  if (decided)
    return {
      atMs: sinceMs(decided.lastUpdateTime) + KEPT_MS.decided,
      because: `it was ${decided.type.toLowerCase()} more than an hour ago`,
    };
  return { atMs: sinceMs(undefined) + KEPT_MS.pending, because: 'nobody has decided about it for a day' };
}

function remove({ metadata }: Request, because: string): ApiAction {
  return { verb: 'delete', resource: REQUESTS, name: metadata.name, uid: metadata.uid ?? '', because };
}
