/** `POST /apis/log.reckon.dev/v1/transactions`: reads the list of operations, and answers with what became of each, or with everything that stands against any of them. Routed by `memory/questions.ts`. */
import { MAX_TRANSACTION_BODY_BYTES, readValue } from '../body.ts';
import { isDryRun, type Call } from '../call.ts';
import { qualified, type Cause, type Status } from '../errors.ts';
import { MEMORY_API_VERSION } from '../memory/history.ts';
import { checkDryRun } from '../request-options.ts';
import { sendJson } from '../respond.ts';
import { operationsOf, readOperation, wordsOf } from './operations.ts';
import { transact, type Refusal } from './transaction.ts';

export async function transactions(call: Call): Promise<void> {
  for (const value of call.query.getAll('dryRun')) checkDryRun(call, value);
  const { registry, store } = call.services;
  const body = await readValue(call, { limitBytes: MAX_TRANSACTION_BODY_BYTES });
  const operations = operationsOf(body, store.maxTransaction);
  const members = operations.map((given) => ({ words: wordsOf(given), read: () => readOperation(given, registry) }));
  const outcome = await transact(call, members, isDryRun(call));
  if ('refusals' in outcome) return sendRefusals(call, outcome.refusals, operations.length);
  call.response.setHeader('Reckon-Revision', String(outcome.revision));
  sendJson(call, 200, {
    kind: 'TransactionResult',
    apiVersion: MEMORY_API_VERSION,
    revision: outcome.revision,
    ...(isDryRun(call) && { dryRun: true }),
    members: outcome.members,
  });
}

/** A Status as every other refusal, with a Status of its own for each member that was refused. */
export function sendRefusals(call: Call, refusals: readonly Refusal[], count: number): void {
  const [first] = refusals;
  const same = refusals.every(({ error }) => error.reason === first?.error.reason);
  const told = refusals.map(({ index, verb, kind, namespace, name, error }) => {
    const where = namespace === '' ? '' : ` in ${namespace}`;
    return `operations[${index}] (${verb} ${kind} ${JSON.stringify(name)}${where}): ${error.message}`;
  });
  const reason = same && first ? first.error.reason : 'Invalid';
  const status: Status = {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    message: `nothing was written: ${refusals.length} of ${count} operations ${refusals.length === 1 ? 'was' : 'were'} refused: ${told.join('; ')}`,
    reason,
    details: {
      causes: refusals.flatMap(causesOf),
      refusals: refusals.map(({ error, ...words }) => ({ ...words, status: error.status() })),
    },
    code: same && first ? first.error.code : 422,
  };
  sendJson(call, status.code, status);
}

/** With the fields as they stand in the request. */
function causesOf({ index, verb, kind: kindWord, error }: Refusal): Cause[] {
  const root = `operations[${index}]`;
  const { causes = [], kind = '', group = '', name = '' } = error.details ?? {};
  if (causes.length === 0) {
    const about = kind === '' ? '' : `${qualified(kind, group)} ${JSON.stringify(name)}`;
    return [{ reason: error.reason, message: error.message || about, field: root }];
  }
  const isOfObject = kind === kindWord && (verb === 'create' || verb === 'update' || verb === 'apply');
  return causes.map((cause) => ({
    ...cause,
    field: [root, isOfObject && 'object', cause.field].filter(Boolean).join('.'),
  }));
}
