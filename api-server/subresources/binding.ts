/** POST pods/binding, and `bindings`, which is the same under an older name: the scheduler's word on which node a pod runs. It stands once; a second one is a conflict. */
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import { notSupported, required } from '../admission/fault.ts';
import { readObject } from '../body.ts';
import type { Call } from '../call.ts';
import { conflict, internal, invalid, methodNotAllowed, success } from '../errors.ts';
import { sendJson } from '../respond.ts';
import { decode } from '../store/entry.ts';
import { changeObject } from '../verbs/update.ts';
import { timestamp } from '../verbs/write.ts';

export async function binding(call: Call): Promise<void> {
  if (call.target.verb !== 'create') throw methodNotAllowed(call.request.method ?? '');
  await bind(call, await readBinding(call));
}

/** The pod is named in the body alone. */
export async function bindings(call: Call): Promise<void> {
  const pods = call.services.registry.byResource('', 'v1', 'pods');
  if (!pods) throw internal('pods have no schema');
  const body = await readBinding(call);
  const target = { ...call.target, resource: 'pods', name: body.metadata.name, subresource: 'binding' };
  await bind({ ...call, definition: pods, target }, body);
}

/** Throws Invalid for what is no node. */
async function readBinding(call: Call): Promise<ApiObject> {
  const schema = call.services.registry.type('io.k8s.api.core.v1.Binding');
  if (!schema) throw internal('the Binding kind has no schema');
  const kind = { group: '', version: 'v1', kind: 'Binding', schema };
  const body = await readObject(call, kind);
  const { kind: targetKind, name } = (body['target'] ?? {}) as { kind?: string; name?: string };
  const faults = [
    ...(targetKind && targetKind !== 'Node' ? [notSupported('target.kind', targetKind, ['Node', '<empty>'])] : []),
    ...(name ? [] : [required('target.name', 'the node that the pod is bound to')]),
  ];
  if (faults.length > 0)
    throw invalid({ ...kind, resource: 'bindings' }, body.metadata.name || call.target.name, faults);
  return body;
}

async function bind(call: Call, body: ApiObject): Promise<void> {
  const { name: node = '' } = body['target'] as { name?: string };
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
      if (pod.spec.schedulingGates?.length)
        throw conflict(
          call.definition,
          call.target.name,
          `pod ${pod.metadata.name} has non-empty .spec.schedulingGates`,
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
