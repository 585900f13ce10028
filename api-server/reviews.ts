/**
 * The kinds that are questions: posted, answered in their status, never stored. Called by `verbs/create.ts` for every kind with `storage: none`.
 */
import type { ApiObject } from '../api-schemas/schema.ts';
import { access, localAccess, self, selfAccess, selfRules, token } from './authorization/access-reviews.ts';
import { validate } from './admission/validate.ts';
import { readObject } from './body.ts';
import type { Call } from './call.ts';
import { invalid, methodNotAllowed } from './errors.ts';
import { sendObject } from './respond.ts';

type Answer = (object: ApiObject, call: Call) => Record<string, unknown>;

const ANSWERS: Readonly<Record<string, Answer>> = {
  'authentication.k8s.io/selfsubjectreviews': self,
  'authentication.k8s.io/tokenreviews': token,
  'authorization.k8s.io/selfsubjectaccessreviews': selfAccess,
  'authorization.k8s.io/subjectaccessreviews': access,
  'authorization.k8s.io/localsubjectaccessreviews': localAccess,
  'authorization.k8s.io/selfsubjectrulesreviews': selfRules,
};

export async function review(call: Call): Promise<void> {
  const { definition } = call;
  const answer = ANSWERS[`${definition.group}/${definition.resource}`];
  if (!answer) throw methodNotAllowed(call.request.method ?? '');
  const object = await readObject(call);
  // A question needs no name.
  const faults = validate(object, undefined, definition).filter(({ field }) => !field?.startsWith('metadata'));
  if (faults.length > 0) throw invalid(definition, '', faults);
  object.metadata = { ...object.metadata, creationTimestamp: undefined } as unknown as ApiObject['metadata'];
  if (!object.metadata.name) delete (object.metadata as Partial<ApiObject['metadata']>).name;
  object['status'] = answer(object, call);
  sendObject(call, object, 201);
}
