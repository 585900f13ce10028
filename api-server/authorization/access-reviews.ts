/**
 * Answers to questions about permissions and identities: the SubjectAccessReview family, SelfSubjectRulesReview, SelfSubjectReview and TokenReview. Called by `reviews.ts`.
 * https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { UserInfo } from '../../api-schemas/types/authentication-v1.ts';
import type {
  NonResourceAttributes,
  ResourceAttributes as AskedResource,
  SubjectAccessReviewSpec,
} from '../../api-schemas/types/authorization-v1.ts';
import type { Identity } from '../authentication/identity.ts';
import type { Call } from '../call.ts';
import { badRequest, invalid, type Cause } from '../errors.ts';
import type { Attributes } from './attributes.ts';

type Status = Record<string, unknown>;

interface Question {
  readonly resourceAttributes?: AskedResource;
  readonly nonResourceAttributes?: NonResourceAttributes;
}

const required = (field: string, why: string): Cause => ({
  reason: 'FieldValueRequired',
  field,
  message: `Required value: ${why}`,
});

const refused = (field: string, why: string): Cause => ({
  reason: 'FieldValueInvalid',
  field,
  message: `Invalid value: ${why}`,
});

function questionOf(object: ApiObject, call: Call, faults: Cause[] = []): Attributes {
  const { resourceAttributes, nonResourceAttributes } = (object['spec'] ?? {}) as Question;
  if (resourceAttributes && nonResourceAttributes)
    faults.push(refused('spec.nonResourceAttributes', 'cannot be specified in combination with resourceAttributes'));
  if (!resourceAttributes && !nonResourceAttributes)
    faults.push(
      refused(
        'spec.resourceAttributes',
        'exactly one of nonResourceAttributes or resourceAttributes must be specified',
      ),
    );
  if (faults.length > 0) throw invalid(call.definition, '', faults);
  if (!resourceAttributes) return { verb: nonResourceAttributes?.verb ?? '', path: nonResourceAttributes?.path ?? '' };
  const { verb = '', group = '', resource = '', subresource = '', namespace = '', name = '' } = resourceAttributes;
  return { verb, group, resource, subresource, namespace, name };
}

function decided(identity: Identity, attributes: Attributes, call: Call): Status {
  const { allowed, reason } = call.services.authorizer.decide(identity, attributes);
  return { allowed, ...(reason !== '' && { reason }) };
}

/** May I? */
export const selfAccess = (object: ApiObject, call: Call): Status =>
  decided(call.identity, questionOf(object, call), call);

/** May he? */
export function access(object: ApiObject, call: Call): Status {
  const { user = '', groups = [] } = (object['spec'] ?? {}) as SubjectAccessReviewSpec;
  const nobody = user === '' && groups.length === 0;
  const faults = nobody ? [required('spec.user', 'at least one of user or group must be specified')] : [];
  return decided({ user, groups }, questionOf(object, call, faults), call);
}

/** May he, within this namespace? */
export function localAccess(object: ApiObject, call: Call): Status {
  const { namespace } = call.target;
  const asked = (object['spec'] as Question | undefined)?.resourceAttributes?.namespace;
  if (asked !== namespace)
    throw badRequest(
      `spec.resourceAttributes.namespace must match namespace: ${namespace}, got ${JSON.stringify(asked ?? '')}`,
    );
  return access(object, call);
}

/** What may I? */
export function selfRules(object: ApiObject, call: Call): Status {
  const namespace = (object['spec'] as { namespace?: string } | undefined)?.namespace ?? '';
  if (namespace === '') throw badRequest('no namespace on request');
  const rules = call.services.authorizer.rulesFor(call.identity, namespace);
  return {
    resourceRules: rules
      .filter(({ resources }) => resources?.length)
      .map(({ verbs, apiGroups = [], resources = [], resourceNames }) => ({
        verbs,
        apiGroups,
        resources,
        ...(resourceNames?.length && { resourceNames }),
      })),
    nonResourceRules: rules
      .filter(({ nonResourceURLs }) => nonResourceURLs?.length)
      .map(({ verbs, nonResourceURLs }) => ({ verbs, nonResourceURLs })),
    incomplete: false,
  };
}

function userInfo({ user, uid, groups, extra }: Identity): UserInfo {
  return {
    username: user,
    ...(uid !== undefined && { uid }),
    groups: [...groups],
    ...(extra && { extra: Object.fromEntries(Object.entries(extra).map(([key, values]) => [key, [...values]])) }),
  };
}

/** Who am I? */
export const self = (_: ApiObject, { identity }: Call): Status => ({ userInfo: userInfo(identity) });

/** Whose token is this? */
export function token(object: ApiObject, call: Call): Status {
  const spec = (object['spec'] ?? {}) as { token?: string; audiences?: readonly string[] };
  if (!spec.token) throw badRequest('token is required for TokenReview in authentication');
  const answer = call.services.tokens.verify(spec.token, spec.audiences?.length ? spec.audiences : undefined);
  if ('fault' in answer) return { authenticated: false, user: {}, error: answer.fault };
  return { authenticated: true, user: userInfo(answer.identity), audiences: answer.audiences };
}
