/**
 * The options that every write takes in its query: what they may be, judged before anything else is done. Called by `server.ts`.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#dry-run
 */
import type { Call } from './call.ts';
import { badRequest, conflict, invalidOption } from './errors.ts';
import type { RequestVerb } from './request.ts';
import { decode, entryId } from './store/entry.ts';

/** The meta/v1 kind that the query of a verb stands for. */
const OPTIONS: Readonly<Partial<Record<RequestVerb, string>>> = {
  create: 'CreateOptions',
  update: 'UpdateOptions',
  patch: 'PatchOptions',
  delete: 'DeleteOptions',
  deletecollection: 'DeleteOptions',
};

/** Where controllers' Leases stand. */
const LEASE_NAMESPACE = 'kube-system';
const MAX_MANAGER_LENGTH = 128;
const FIELD_VALIDATIONS = ['Ignore', 'Strict', 'Warn'];

/** What any request may say of the time that it gives itself. */
const TIMES = [
  ['timeoutSeconds', /^[+-]?\d+$/, 'whole seconds'],
  ['timeout', /^[+-]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|\u00b5s|\u03bcs|ms|s|m|h))+)$/, 'a duration such as 10s or 1m30s'],
] as const;

/** `meta/v1` kind of the options of this call. */
export const optionsKind = (call: Pick<Call, 'target'>): string => OPTIONS[call.target.verb] ?? 'GetOptions';

const unsupported = (value: unknown, supported: readonly string[]): string =>
  `Unsupported value: ${JSON.stringify(value)}: supported values: ${supported.map((each) => JSON.stringify(each)).join(', ')}`;

/** Throws BadRequest for a time that is none, Invalid for an option that the verb does not know, and Conflict for a writer that no longer leads. */
export function checkOptions(call: Call): void {
  const { query, target } = call;
  for (const [option, pattern, expected] of TIMES) {
    const given = query.get(option);
    if (given !== null && !pattern.test(given))
      throw badRequest(`${option}: Invalid value: ${JSON.stringify(given)}: expected ${expected}`);
  }
  if (!OPTIONS[target.verb]) return;
  checkLease(call);
  for (const value of query.getAll('dryRun')) checkDryRun(call, value);
  const manager = query.get('fieldManager') ?? '';
  if (manager.length > MAX_MANAGER_LENGTH)
    throw refused(
      call,
      'fieldManager',
      'FieldValueTooLong',
      `Too long: may not be more than ${MAX_MANAGER_LENGTH} bytes`,
    );
  if (/[^\x20-\x7e\u00a0-\uffff]/.test(manager))
    throw refused(
      call,
      'fieldManager',
      'FieldValueInvalid',
      `Invalid value: ${JSON.stringify(manager)}: should only contain printable characters`,
    );
  const validation = query.get('fieldValidation') ?? '';
  if (validation !== '' && !FIELD_VALIDATIONS.includes(validation))
    throw refused(call, 'fieldValidation', 'FieldValueNotSupported', unsupported(validation, FIELD_VALIDATIONS));
}

/**
 * A controller names the Lease that it leads by in `Reckon-Lease: <name>/<holder>`. One that was paused and woke late is refused here, whatever it believes: another has taken the Lease by then.
 */
function checkLease({ request, services, definition, target }: Call): void {
  const header = request.headers['reckon-lease'];
  if (typeof header !== 'string') return;
  const slash = header.indexOf('/');
  const [name, holder] = [header.slice(0, slash), header.slice(slash + 1)];
  const leases = services.registry.byResource('coordination.k8s.io', 'v1', 'leases');
  const lease = leases && services.store.cache(leases).get(entryId({ namespace: LEASE_NAMESPACE, name }));
  const holds = lease && (decode(lease)['spec'] as { holderIdentity?: string } | undefined)?.holderIdentity;
  if (holds !== holder)
    throw conflict(definition, target.name, `${holder} does not hold the lease ${name}, by which it writes`);
}

/** Also for the `dryRun` of a DeleteOptions body. */
export function checkDryRun(call: Pick<Call, 'target'>, value: unknown): void {
  if (value !== 'All') throw refused(call, 'dryRun', 'FieldValueNotSupported', unsupported(value, ['All']));
}

export const refused = (call: Pick<Call, 'target'>, field: string, reason: string, message: string) =>
  invalidOption(optionsKind(call), { reason, field, message });

export const notSupported = (call: Pick<Call, 'target'>, field: string, value: unknown, supported: readonly string[]) =>
  refused(call, field, 'FieldValueNotSupported', unsupported(value, supported));
