/**
 * Several writes that stand together or not at all. Every member is judged first, on what stands and on the members before it; if all are good they go to the log as one atomic batch, each under the guard that it was
 * computed on. When the log says that something has moved on meanwhile, everything is judged again. Called by `endpoint.ts` and, for a restore, by `restore/`.
 */
import { GuardError } from '../../event-log/event-log.ts';
import type { Call } from '../call.ts';
import { conflict, internal, staleWrite, StatusError } from '../errors.ts';
import { decode, type Entry } from '../store/entry.ts';
import { mayTryAgain } from '../verbs/write.ts';
import { requireSize, type Operation, type OperationWords } from './operations.ts';
import { prepare, type Outcome, type Prepared } from './prepare.ts';
import { changeId, StagedStore } from './staged-store.ts';

/** One member on its way in: `read` throws where its words cannot be understood, or depends on what those before it have become. */
export interface Member {
  readonly words: OperationWords;
  read(staged: StagedStore): Operation;
}

/** What became of one member. */
export interface MemberResult extends OperationWords {
  readonly index: number;
  readonly outcome: Outcome;
  readonly uid: string;
  /** Absent where nothing was written. */
  readonly resourceVersion?: string;
}

export interface Refusal extends OperationWords {
  readonly index: number;
  readonly error: StatusError;
}

export type TransactionOutcome =
  | { readonly refusals: readonly Refusal[] }
  /** `revision`: where the whole stands; where nothing had to change, or on a dry run, what it was judged on. */
  | { readonly revision: number; readonly written: boolean; readonly members: readonly MemberResult[] };

/** Rejects with StatusError for what is nobody's fault (503), and for more than the log takes at once (413). */
export async function transact(call: Call, members: readonly Member[], dryRun: boolean): Promise<TransactionOutcome> {
  const { store, registry } = call.services;
  const anyOfTheLog = registry.byResource('', 'v1', 'namespaces');
  if (!anyOfTheLog) throw internal('there are no namespaces');
  for (let attempt = 0; ; attempt++) {
    await store.current(anyOfTheLog);
    const staged = new StagedStore(store);
    const judged = await judge(call, members, staged);
    if ('refusals' in judged) return judged;
    const { changes } = staged;
    requireSize(changes.length, store.maxTransaction);
    if (dryRun || changes.length === 0) {
      const revision = store.stream(anyOfTheLog).position;
      return { revision, written: false, members: resultsOf(members, judged.prepared, new Map()) };
    }
    try {
      const entries = await store.transaction(changes);
      const written = new Map(changes.map(({ key }, index) => [changeId(key), entries[index] as Entry]));
      const revision = Math.max(...entries.map(({ sequence }) => sequence));
      return { revision, written: true, members: resultsOf(members, judged.prepared, written) };
    } catch (error) {
      if (!(error instanceof GuardError)) throw error;
      const change = changes.find(({ key }) => changeId(key) === changeId(error.key));
      if (!mayTryAgain(error, attempt)) throw staleWrite(error.key, error.key.name);
      if (change) await store.refreshGuard(change.definition, change.key);
    }
  }
}

async function judge(
  call: Call,
  members: readonly Member[],
  staged: StagedStore,
): Promise<{ prepared: readonly Prepared[] } | { refusals: readonly Refusal[] }> {
  const prepared: Prepared[] = [];
  const refusals: Refusal[] = [];
  const places = new Map<string, number>();
  const missing = new Set<string>();
  for (const [index, { words, read }] of members.entries()) {
    try {
      const operation = read(staged);
      const { definition, namespace, name } = operation;
      const id = changeId({ group: definition.group, resource: definition.resource, namespace, name });
      const earlier = places.get(id);
      if (name !== '' && earlier !== undefined)
        throw conflict(
          definition,
          name,
          `operations[${earlier}] is about the same object, and a transaction writes an object once`,
        );
      places.set(id, index);
      prepared.push(await prepare(call, operation, staged));
    } catch (error) {
      const refusal = refusalOf(error);
      // What only follows from an earlier refusal would bury it.
      if (isNamespaceOf(refusal, words, missing)) continue;
      if (words.kind === 'Namespace') missing.add(words.name);
      refusals.push({ ...words, index, error: refusal });
    }
  }
  return refusals.length > 0 ? { refusals } : { prepared };
}

const isNamespaceOf = ({ reason, details }: StatusError, { namespace }: OperationWords, missing: ReadonlySet<string>) =>
  reason === 'NotFound' && details?.kind === 'namespaces' && details.name === namespace && missing.has(namespace);

function refusalOf(error: unknown): StatusError {
  if (error instanceof StatusError && error.code < 500) return error;
  if (error instanceof GuardError) return staleWrite(error.key, error.key.name);
  throw error;
}

function resultsOf(
  members: readonly Member[],
  prepared: readonly Prepared[],
  written: ReadonlyMap<string, Entry>,
): MemberResult[] {
  return prepared.map(({ outcome, entry }, index) => {
    const entryNow = written.get(changeId(entry.key));
    const { sequence } = entryNow ?? entry;
    return {
      index,
      ...(members[index]?.words as OperationWords),
      name: entry.key.name,
      outcome,
      uid: (entryNow ? decode(entryNow).metadata.uid : entry.uid) ?? '',
      ...(sequence > 0 && { resourceVersion: String(sequence) }),
    };
  });
}
