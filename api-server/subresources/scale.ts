/**
 * The scale subresource: one number to set on any kind whose schema says where its replicas stand. https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/scale-v1/
 */
import type { ApiObject, ScalePaths } from '../../api-schemas/schema.ts';
import { asObject, contentTypeOf, fieldValidationOf, readBody, readObject } from '../body.ts';
import type { Call, KindSchema } from '../call.ts';
import { internal, invalid, methodNotAllowed, staleWrite } from '../errors.ts';
import { inAskedVersion } from '../custom-resources/presentation.ts';
import { sendObject, writtenAllTheSame } from '../respond.ts';
import { fieldValue, selectorText } from '../store/selectors.ts';
import { decode, type Entry } from '../store/entry.ts';
import { findAsked } from '../verbs/get.ts';
import { readPatch } from '../verbs/patch.ts';
import { changeObject, checkPlace } from '../verbs/update.ts';

function at(object: ApiObject, path: string): unknown {
  let value: unknown = object;
  for (const part of path.split('.').filter(Boolean)) value = (value as Record<string, unknown> | undefined)?.[part];
  return value;
}

function set(object: ApiObject, path: string, value: unknown): void {
  const parts = path.split('.').filter(Boolean);
  const last = parts.pop() ?? '';
  let parent: Record<string, unknown> = object;
  for (const part of parts) parent = (parent[part] ??= {}) as Record<string, unknown>;
  parent[last] = value;
}

function scaleOf(entry: Entry, paths: ScalePaths): ApiObject {
  const object = decode(entry);
  const { name, namespace, uid, resourceVersion, creationTimestamp } = object.metadata;
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp } as ApiObject['metadata'],
    spec: { replicas: at(object, paths.specReplicasPath) ?? 0 },
    status: {
      replicas: at(object, paths.statusReplicasPath) ?? 0,
      ...(paths.labelSelectorPath && { selector: selectorText(at(object, paths.labelSelectorPath)) }),
    },
  };
}

export async function scale(call: Call): Promise<void> {
  const { definition, services, target } = call;
  const paths = definition.scale;
  const schema = services.registry.type('io.k8s.api.autoscaling.v1.Scale');
  if (!paths || !schema) throw internal(`${definition.resource} declare no scale paths`);
  const scaleKind: KindSchema = { group: 'autoscaling', version: 'v1', kind: 'Scale', schema };
  const answer = async (found: Entry) => {
    const [entry = found] = await inAskedVersion(definition, [found]);
    sendObject(call, scaleOf(entry, paths));
  };
  if (target.verb === 'get') return answer((await findAsked(call)).entry);

  let propose: (current: ApiObject) => ApiObject;
  if (target.verb === 'update') {
    const given = await readObject(call, scaleKind);
    propose = () => given;
  } else if (target.verb === 'patch') {
    const { compute, faults } = readPatch(call, contentTypeOf(call), await readBody(call), scaleKind);
    const validation = fieldValidationOf(call);
    propose = (current) =>
      asObject(call, { value: compute(current), duplicates: [], faults, definition: scaleKind, validation });
  } else throw methodNotAllowed(call.request.method ?? '');

  const entry = await changeObject(
    call,
    (current) => {
      const wanted = propose(scaleOf(current, paths));
      wanted.metadata.name ||= target.name;
      checkPlace(call, wanted);
      const { resourceVersion } = wanted.metadata;
      if (resourceVersion && resourceVersion !== String(current.sequence)) throw staleWrite(definition, target.name);
      const replicas = Number(fieldValue(wanted, 'spec.replicas') || 0);
      if (!Number.isSafeInteger(replicas) || replicas < 0)
        throw invalid({ ...scaleKind, resource: 'scales' }, target.name, [
          {
            reason: 'FieldValueInvalid',
            field: 'spec.replicas',
            message: `Invalid value: ${replicas}: must be greater than or equal to 0`,
          },
        ]);
      const object = decode(current);
      set(object, paths.specReplicasPath, replicas);
      return object;
    },
    { verb: target.verb, subresource: 'scale' },
  );
  call.response.setHeader('Reckon-Revision', entry.sequence);
  await answer(entry).catch((error: unknown) => Promise.reject(writtenAllTheSame(error)));
}
