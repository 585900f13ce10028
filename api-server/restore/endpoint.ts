/**
 * `POST /apis/log.reckon.dev/v1/restores`: what a namespace, objects of a kind, one object or the cluster asked for at a moment is asked for again, by compensating writes in one transaction. With `dryRun=All` only the plan is
 * answered. Everything that is written is a new record: a restore is undone by another one. Routed by `memory/questions.ts`.
 */
import type { Registry } from '../../api-schemas/registry.ts';
import { readValue } from '../body.ts';
import { apiVersionOf, isDryRun, type Call } from '../call.ts';
import { badRequest, notFound } from '../errors.ts';
import { MEMORY_API_VERSION, pastOf } from '../memory/history.ts';
import { standpoint } from '../memory/moment.ts';
import { isObject, type JsonObject } from '../patch/json.ts';
import { checkDryRun } from '../request-options.ts';
import { sendJson } from '../respond.ts';
import { sendRefusals } from '../transactions/endpoint.ts';
import { requireSize } from '../transactions/operations.ts';
import { transact } from '../transactions/transaction.ts';
import { memberOf } from './members.ts';
import { planOf, type Plan, type Scope } from './plan.ts';

const FIELDS = ['kind', 'apiVersion', 'metadata', 'to', 'namespace', 'object', 'cluster'];

export async function restores(call: Call): Promise<void> {
  for (const value of call.query.getAll('dryRun')) checkDryRun(call, value);
  const { registry, store } = call.services;
  const past = pastOf(call);
  const { to, scope } = readRestore(await readValue(call), registry);
  const { revision } = await standpoint(call, to, 'to');
  const newest = (await standpoint(call, 'now', 'to')).revision;
  const plan = await planOf(call, past, scope, { revision, newest });
  requireSize(plan.items.length, store.maxTransaction);
  const reason = { because: `it is restored to revision ${revision}`, ...call.reason };
  const members = plan.items.map((item) => memberOf(item, { registry, reason }));
  const isTrial = isDryRun(call);
  const outcome = members.length === 0 ? undefined : await transact(call, members, isTrial);
  const refusals = outcome && 'refusals' in outcome ? outcome.refusals : [];
  if (refusals.length > 0 && !isTrial) return sendRefusals(call, refusals, members.length);
  const stands = outcome && 'revision' in outcome && outcome.written ? outcome.revision : undefined;
  if (stands !== undefined) call.response.setHeader('Reckon-Revision', String(stands));
  sendJson(call, 200, {
    kind: 'RestoreResult',
    apiVersion: MEMORY_API_VERSION,
    to: { revision },
    /** What it was before: a restore to there undoes this one. */
    from: { revision: newest },
    ...(isTrial && { dryRun: true }),
    ...(stands !== undefined && { revision: stands }),
    ...toldOf(plan),
    ...(refusals.length > 0 && {
      refusals: refusals.map(({ error, ...words }) => ({ ...words, status: error.status() })),
    }),
  });
}

function toldOf({ items, cannot, leftToControllers }: Plan): Record<string, unknown> {
  return {
    items: items.map(({ action, definition, key, changes, losses }) => ({
      action,
      object: { apiVersion: apiVersionOf(definition), kind: definition.kind, ...key },
      changes,
      losses,
    })),
    cannot: cannot.map(({ kind, key, why }) => ({ object: { kind, ...key }, why })),
    leftToControllers,
  };
}

/** Throws BadRequest. */
function readRestore(body: unknown, registry: Registry): { to: string; scope: Scope } {
  if (!isObject(body)) throw badRequest('the body must be a JSON object of kind Restore');
  const { kind = 'Restore', apiVersion = MEMORY_API_VERSION, to, namespace, object, cluster } = body;
  if (kind !== 'Restore' || apiVersion !== MEMORY_API_VERSION)
    throw badRequest(`the body is a ${String(apiVersion)} ${String(kind)}, expected ${MEMORY_API_VERSION} Restore`);
  const unknown = Object.keys(body).find((field) => !FIELDS.includes(field));
  if (unknown !== undefined) throw badRequest(`unknown field ${JSON.stringify(unknown)} of the Restore`);
  if (typeof to !== 'string' || to === '') throw badRequest('to: Required value: the moment to restore to');
  if (namespace !== undefined && (typeof namespace !== 'string' || namespace === ''))
    throw badRequest('namespace: Invalid value: expected the name of a namespace');
  if (object !== undefined && !isObject(object)) throw badRequest('object: Invalid value: expected an object');
  if (namespace === undefined && object === undefined && cluster !== true)
    throw badRequest('namespace: Required value: a namespace, an object, or "cluster": true for everything');
  return {
    to,
    scope: {
      ...(typeof namespace === 'string' && { namespace }),
      ...(isObject(object) && kindOf(object, registry, namespace)),
    },
  };
}

function kindOf(object: JsonObject, registry: Registry, namespace: unknown): Scope {
  const { apiVersion, kind, name } = object;
  const [group = '', version = ''] = String(apiVersion).includes('/')
    ? String(apiVersion).split('/')
    : ['', String(apiVersion)];
  const definition = registry.byKind(group, version, String(kind));
  if (!definition) throw notFound({ group, resource: String(kind) }, String(name ?? ''));
  if (definition.storage !== 'log') throw badRequest(`object: ${definition.resource} are not kept in the history`);
  if (name !== undefined && typeof name !== 'string') throw badRequest('object.name: Invalid value: expected a string');
  if (name !== undefined && definition.namespaced && namespace === undefined)
    throw badRequest('namespace: Required value: of the object');
  return { definition, ...(typeof name === 'string' && { name }) };
}
