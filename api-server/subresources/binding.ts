/** POST pods/binding: the scheduler's word on which node a pod runs. It stands once; a second one is a conflict. */
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import { readObject } from '../body.ts';
import type { Call } from '../call.ts';
import { badRequest, conflict, internal, methodNotAllowed, success } from '../errors.ts';
import { sendJson } from '../respond.ts';
import { decode } from '../store/entry.ts';
import { changeObject } from '../verbs/update.ts';
import { timestamp } from '../verbs/write.ts';

export async function binding(call: Call): Promise<void> {
  if (call.target.verb !== 'create') throw methodNotAllowed(call.request.method ?? '');
  const schema = call.services.registry.type('io.k8s.api.core.v1.Binding');
  if (!schema) throw internal('the Binding kind has no schema');
  const body = await readObject(call, { group: '', version: 'v1', kind: 'Binding', schema });
  const node = (body['target'] as { name?: string } | undefined)?.name;
  if (!node) throw badRequest('target.name: Required value: the node that the pod is bound to');
  const entry = await changeObject(
    call,
    (current) => {
      const pod = decode(current) as Pod & ApiObject;
      if (body.metadata.uid && body.metadata.uid !== current.uid)
        throw conflict(
          call.definition,
          call.target.name,
          `Precondition failed: UID in precondition: ${body.metadata.uid}, UID in object meta: ${current.uid}`,
        );
      if (pod.metadata.deletionTimestamp)
        throw conflict(
          call.definition,
          call.target.name,
          `pod ${pod.metadata.name} is being deleted, cannot be assigned to a host`,
        );
      if (!pod.spec || pod.spec.nodeName)
        throw conflict(
          call.definition,
          call.target.name,
          `pod ${pod.metadata.name} is already assigned to node "${pod.spec?.nodeName}"`,
        );
      pod.spec.nodeName = node;
      const conditions = (pod.status?.conditions ?? []).filter(({ type }) => type !== 'PodScheduled');
      const lastTransitionTime = timestamp();
      pod.status = {
        ...pod.status,
        conditions: [...conditions, { type: 'PodScheduled', status: 'True', lastTransitionTime }],
      };
      return pod;
    },
    { verb: 'update', subresource: 'binding' },
  );
  call.response.setHeader('Reckon-Revision', entry.sequence);
  sendJson(call, 201, { ...success({ name: call.target.name, kind: 'pods' }), code: 201 });
}
