/**
 * Requests for certificates: who asked is written by the server, what was asked for cannot be changed, whoever approves or signs must hold the signer, and a verdict once given stands.
 * https://kubernetes.io/docs/reference/access-authn-authz/certificate-signing-requests/
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type {
  CertificateSigningRequest,
  CertificateSigningRequestCondition,
} from '../../api-schemas/types/certificates-v1.ts';
import { readSigningRequest, SigningRequestError, type SigningRequest } from '../../pki/signing-request.ts';
import { ADMINISTRATORS } from '../authentication/identity.ts';
import type { Call } from '../call.ts';
import { forbidden, invalid } from '../errors.ts';
import * as fault from '../admission/fault.ts';
import { timestamp } from '../verbs/write.ts';
import type { Kind } from './kinds.ts';

type Request = CertificateSigningRequest & ApiObject;

const GROUP = 'certificates.k8s.io';
const CLIENT_SIGNER = 'kubernetes.io/kube-apiserver-client';
const LEGACY_SIGNER = 'kubernetes.io/legacy-unknown';
const SIGNER_NAME = /^[a-z0-9]([-a-z0-9.]*[a-z0-9])?\.[a-z0-9]+\/[a-z0-9]([-.a-z0-9]*[a-z0-9])?$/;
const VERDICTS = ['Approved', 'Denied'];
const FINAL = [...VERDICTS, 'Failed'];

/** Throws Invalid where the request itself cannot be read. */
function readRequest(object: Request, call: Call): SigningRequest {
  const pem = Buffer.from(object.spec?.request ?? '', 'base64').toString('latin1');
  try {
    return readSigningRequest(pem);
  } catch (error) {
    if (!(error instanceof SigningRequestError)) throw error;
    throw invalid(call.definition, object.metadata.name, [fault.invalid('spec.request', pem, error.message)]);
  }
}

function specFaults({ spec }: Request): fault.Fault[] {
  const { signerName = '', usages = [] } = spec ?? {};
  const faults: fault.Fault[] = [];
  if (usages.length === 0) faults.push(fault.required('spec.usages'));
  usages.forEach((usage, index) => {
    const at = `spec.usages[${index}]`;
    if (!USAGES.includes(usage)) faults.push(fault.notSupported(at, usage, USAGES));
    if (usages.indexOf(usage) !== index) faults.push(fault.duplicate(at, usage));
  });
  if (signerName === LEGACY_SIGNER)
    faults.push(
      fault.invalid('spec.signerName', signerName, 'the legacy signerName is not allowed via this API version'),
    );
  else if (!SIGNER_NAME.test(signerName))
    faults.push(
      fault.invalid(
        'spec.signerName',
        signerName,
        "must be a fully qualified domain and path of the form 'example.com/signer-name'",
      ),
    );
  return faults;
}

const USAGES = [
  'any',
  'cert sign',
  'client auth',
  'code signing',
  'content commitment',
  'crl sign',
  'data encipherment',
  'decipher only',
  'digital signature',
  'email protection',
  'encipher only',
  'ipsec end system',
  'ipsec tunnel',
  'ipsec user',
  'key agreement',
  'key encipherment',
  'microsoft sgc',
  'netscape sgc',
  'ocsp signing',
  's/mime',
  'server auth',
  'signing',
  'timestamping',
];

const conditionsOf = ({ status }: Request): readonly CertificateSigningRequestCondition[] => status?.conditions ?? [];

function stamped(conditions: readonly CertificateSigningRequestCondition[], old: Request) {
  return conditions.map((condition) => {
    const before = conditionsOf(old).find(({ type }) => type === condition.type);
    const lastTransitionTime = before?.status === condition.status ? before.lastTransitionTime : undefined;
    return {
      ...condition,
      lastUpdateTime: condition.lastUpdateTime ?? timestamp(),
      lastTransitionTime: condition.lastTransitionTime ?? lastTransitionTime ?? timestamp(),
    };
  });
}

/** Only an approver gives a verdict, and only a signer a certificate; neither is taken back. */
function statusFaults(object: Request, old: Request, subresource: string): fault.Fault[] {
  const at = 'status.conditions';
  const types = conditionsOf(object).map(({ type }) => type);
  const before = conditionsOf(old).map(({ type }) => type);
  const faults: fault.Fault[] = [];
  if (VERDICTS.every((type) => types.includes(type)))
    faults.push(fault.forbidden(at, 'Approved and Denied conditions are mutually exclusive'));
  for (const type of FINAL.filter((each) => before.includes(each) && !types.includes(each)))
    faults.push(fault.forbidden(at, `updates may not remove a condition of type ${JSON.stringify(type)}`));
  const foreign = subresource === 'approval' ? ['Failed'] : VERDICTS;
  for (const type of foreign.filter((each) => types.includes(each) && !before.includes(each)))
    faults.push(fault.forbidden(at, `updates may not add a condition of type ${JSON.stringify(type)}`));
  conditionsOf(object).forEach(({ type, status }, index) => {
    if (FINAL.includes(type) && status !== 'True')
      faults.push(fault.notSupported(`${at}[${index}].status`, status, ['True']));
  });
  const issued = old.status?.certificate;
  const isChanged = object.status?.certificate !== issued;
  if (isChanged && (subresource === 'approval' || issued))
    faults.push(fault.forbidden('status.certificate', 'updates may not set certificate content'));
  return faults;
}

/** Throws Forbidden unless a role gives the verb on the signer, or on all signers of its domain. */
function requireSigner(object: Request, call: Call, verb: 'approve' | 'sign'): void {
  const signerName = object.spec?.signerName ?? '';
  const names = [signerName, `${signerName.split('/')[0] ?? ''}/*`];
  const { authorizer } = call.services;
  const may = names.some(
    (name) =>
      authorizer.decide(call.identity, {
        verb,
        group: GROUP,
        resource: 'signers',
        subresource: '',
        namespace: '',
        name,
      }).allowed,
  );
  if (!may)
    throw forbidden(
      call.definition,
      object.metadata.name,
      `user not permitted to ${verb} requests with signerName ${JSON.stringify(signerName)}`,
    );
}

export const certificateSigningRequests: Kind = {
  prepareCreate(object, call) {
    const request = object as Request;
    const { user, uid, groups, extra } = call.identity;
    const { username: _username, uid: _uid, groups: _groups, extra: _extra, ...asked } = request.spec ?? {};
    object['spec'] = {
      ...asked,
      username: user,
      ...(uid && { uid }),
      ...(groups.length > 0 && { groups }),
      ...(extra && { extra }),
    };
    object['status'] = {};
  },
  prepareUpdate(object, old, call) {
    const request = object as Request;
    const before = old as Request;
    object['spec'] = structuredClone(old['spec']);
    if (call.target.subresource === '') return;
    request.status = { ...request.status, conditions: stamped(conditionsOf(request), before) };
    if (request.status.conditions?.length === 0) delete request.status.conditions;
  },
  admit(object, old, call) {
    const request = object as Request;
    const { name } = object.metadata;
    if (!old) {
      const faults = specFaults(request);
      if (faults.length > 0) throw invalid(call.definition, name, faults);
      const { organizations } = readRequest(request, call);
      if (request.spec?.signerName === CLIENT_SIGNER && organizations.includes(ADMINISTRATORS))
        throw forbidden(
          call.definition,
          name,
          `use of ${CLIENT_SIGNER} signer with ${ADMINISTRATORS} group is not allowed`,
        );
      return;
    }
    const { subresource } = call.target;
    if (subresource === '') return;
    if (subresource === 'approval') requireSigner(request, call, 'approve');
    else requireSigner(request, call, 'sign');
    const faults = statusFaults(request, old as Request, subresource);
    if (faults.length > 0) throw invalid(call.definition, name, faults);
  },
};
