/**
 * What each signer that signs here may put its name to. https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/#kubernetes-signers
 */
import type { Usage } from '../../pki/certificate.ts';
import type { SigningRequest } from '../../pki/signing-request.ts';

export interface Signer {
  /** Why it does not sign this; undefined when it does. */
  fault(asked: SigningRequest, usages: readonly string[]): string | undefined;
}

const NODES = 'system:nodes';
const NODE_USER = 'system:node:';
const ALWAYS_FINE = ['digital signature', 'key encipherment'];

/** The one usage that must be, beside those that may. */
function usageFault(usages: readonly string[], needed: Usage): string | undefined {
  const isFine = usages.includes(needed) && usages.every((usage) => usage === needed || ALWAYS_FINE.includes(usage));
  return isFine
    ? undefined
    : `usages did not match: expected ${needed}, and at most ${ALWAYS_FINE.join(' and ')} beside it, got ${usages.join(', ')}`;
}

function nodeFault({ commonName, organizations }: SigningRequest): string | undefined {
  if (organizations.length !== 1 || organizations[0] !== NODES)
    return `organization in the request must be exactly ${NODES}, got ${organizations.join(', ') || 'none'}`;
  return commonName.startsWith(NODE_USER) && commonName.length > NODE_USER.length
    ? undefined
    : `subject common name must begin with ${NODE_USER}, got ${JSON.stringify(commonName)}`;
}

export const signers: ReadonlyMap<string, Signer> = new Map<string, Signer>([
  ['kubernetes.io/kube-apiserver-client', { fault: (_asked, usages) => usageFault(usages, 'client auth') }],
  [
    'kubernetes.io/kube-apiserver-client-kubelet',
    {
      fault(asked, usages) {
        const { dnsNames, addresses, emails, uris } = asked;
        const names = [...dnsNames, ...addresses, ...emails, ...uris];
        if (names.length > 0) return `subject alternative names are not allowed, got ${names.join(', ')}`;
        return nodeFault(asked) ?? usageFault(usages, 'client auth');
      },
    },
  ],
  [
    'kubernetes.io/kubelet-serving',
    {
      fault(asked, usages) {
        const { dnsNames, addresses, emails, uris } = asked;
        if (dnsNames.length + addresses.length === 0)
          return 'at least one DNS name or IP address is needed among the subject alternative names';
        if (emails.length + uris.length > 0)
          return `only DNS names and IP addresses are allowed among the subject alternative names, got ${[...emails, ...uris].join(', ')}`;
        return nodeFault(asked) ?? usageFault(usages, 'server auth');
      },
    },
  ],
]);
