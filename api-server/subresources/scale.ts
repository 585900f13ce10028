/**
 * The scale subresource: one number to set on any kind whose schema says where its replicas stand. https://kubernetes.io/docs/reference/kubernetes-api/autoscaling-resources/scale-v1/
 */
import type { ApiObject, Column, ScalePaths } from '../../api-schemas/schema.ts';
import { asObject, contentTypeOf, fieldValidationOf, readBody, readObject } from '../body.ts';
import { apiVersionOf, spokenIn, type Call, type KindSchema } from '../call.ts';
import { parseYaml } from '../codec/yaml.ts';
import { internal, invalid, methodNotAllowed, staleWrite } from '../errors.ts';
import { inAskedVersion } from '../custom-resources/presentation.ts';
import { sendObject, writtenAllTheSame } from '../respond.ts';
import { fieldValue, selectorText } from '../store/selectors.ts';
import { decode, type Entry } from '../store/entry.ts';
import { NAME_COLUMN } from '../table/name-column.ts';
import { findAsked } from '../verbs/get.ts';
import { applyConfig, readPatch } from '../verbs/patch.ts';
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

/** What `kubectl get --subresource=scale` shows, of built-in and of custom kinds alike. */
const COLUMNS: readonly Column[] = [
  NAME_COLUMN,
  {
    name: 'Desired',
    type: 'integer',
    format: '',
    priority: 0,
    description: 'How many replicas are wanted.',
    value: '.spec.replicas',
  },
  {
    name: 'Available',
    type: 'integer',
    format: '',
    priority: 0,
    description: 'How many replicas there are.',
    value: '.status.replicas',
  },
  {
    name: 'Age',
    type: 'string',
    format: '',
    priority: 0,
    description: 'Time since the object was created.',
    value: 'cell:age',
  },
];

/** The call as one for a Scale, which is what it is answered with whatever the kind of the object. */
function askingForScale(call: Call, scaleKind: KindSchema): Call {
  const { custom: _, ...definition } = call.definition;
  return { ...call, definition: { ...definition, ...scaleKind, columns: COLUMNS } };
}

/** Throws Invalid. */
function checkReplicas(call: Call, scaleKind: KindSchema, replicas: number): void {
  if (Number.isSafeInteger(replicas) && replicas >= 0) return;
  throw invalid({ ...scaleKind, resource: 'scales' }, call.target.name, [
    {
      reason: 'FieldValueInvalid',
      field: 'spec.replicas',
      message: `Invalid value: ${replicas}: must be greater than or equal to 0`,
    },
  ]);
}

/** What a Scale says of its own about the object: which it is, as of when. */
const STATED: readonly string[] = ['name', 'namespace', 'uid', 'resourceVersion', 'managedFields'];

/** Server-side apply: who applies a Scale comes to own the replicas of the object, and nothing else of it. */
async function applyScale(call: Call, scaleKind: KindSchema, paths: ScalePaths): Promise<Entry> {
  const body = await readBody(call);
  const read = (): ApiObject => {
    const validation = fieldValidationOf(call);
    const undecoded = parseYaml(body, { duplicates: validation !== 'Ignore' });
    const given = asObject(call, { ...undecoded, definition: scaleKind, validation });
    const spoken = spokenIn(call);
    const stated = Object.entries(given.metadata).filter(([field]) => STATED.includes(field));
    const metadata = Object.fromEntries(stated) as unknown as ApiObject['metadata'];
    const config: ApiObject = { apiVersion: apiVersionOf(spoken), kind: spoken.kind, metadata };
    const replicas = at(given, 'spec.replicas');
    if (replicas !== undefined) {
      checkReplicas(call, scaleKind, Number(replicas));
      set(config, paths.specReplicasPath, Number(replicas));
    }
    return config;
  };
  return (await applyConfig(call, read)).entry;
}

export async function scale(call: Call): Promise<void> {
  const { definition, services, target } = call;
  const paths = definition.scale;
  const schema = services.registry.type('io.k8s.api.autoscaling.v1.Scale');
  if (!paths || !schema) throw internal(`${definition.resource} declare no scale paths`);
  const scaleKind: KindSchema = { group: 'autoscaling', version: 'v1', kind: 'Scale', schema };
  const answer = async (found: Entry) => {
    const [entry = found] = await inAskedVersion(definition, [found]);
    sendObject(askingForScale(call, scaleKind), scaleOf(entry, paths));
  };
  if (target.verb === 'get') return answer((await findAsked(call)).entry);

  const answerWritten = async (entry: Entry) => {
    call.response.setHeader('Reckon-Revision', entry.sequence);
    await answer(entry).catch((error: unknown) => Promise.reject(writtenAllTheSame(error)));
  };
  if (target.verb === 'patch' && contentTypeOf(call) === 'application/apply-patch+yaml')
    return answerWritten(await applyScale(call, scaleKind, paths));

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
      checkReplicas(call, scaleKind, replicas);
      const object = decode(current);
      set(object, paths.specReplicasPath, replicas);
      return object;
    },
    { verb: target.verb, subresource: 'scale' },
  );
  await answerWritten(entry);
}
