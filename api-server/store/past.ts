/**
 * Reads at past revisions, from the projection's history: whole resources as they stood, and the events that memory no longer has. What the history cannot answer is 410 Gone, what it cannot answer now is 503.
 */
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import { HistoryBehindError, HistoryGoneError, StateUnavailableError } from '../../state/errors.ts';
import { MAX_PAGE, type Change, type History, type PageStart, type Version } from '../../state/history.ts';
import { expired, unavailable } from '../errors.ts';
import { makeEntry, type Entry } from './entry.ts';
import type { WatchEvent } from './resource-cache.ts';
import type { Sealer } from './seal.ts';

type Scope = Pick<ResourceDefinition, 'group' | 'resource' | 'selectableFields' | 'storage'>;

export class Past {
  readonly #history: History;
  readonly #sealer: Sealer;

  constructor(history: History, sealer: Sealer) {
    this.#history = history;
    this.#sealer = sealer;
  }

  /** Every object of the resource as it stood at a revision, by namespace and name. */
  async entriesAt(scope: Scope, revision: number): Promise<readonly Entry[]> {
    requireRecorded(scope, revision);
    const entries: Entry[] = [];
    let after: PageStart | undefined;
    do {
      const page = await translated(revision, () =>
        this.#history.listAt(scope, revision, { ...(after && { after }), limit: MAX_PAGE }),
      );
      for (const version of page.items) entries.push(await this.#entry(scope, version));
      after = page.next;
    } while (after);
    return entries;
  }

  /** The events after one revision up to another, in order, one page; `position` is where it ends. */
  async events(
    scope: Scope,
    range: { after: number; upTo: number; namespace?: string },
  ): Promise<{ events: readonly WatchEvent[]; position: number }> {
    const { after, upTo, namespace } = range;
    requireRecorded(scope, after);
    const filter = { group: scope.group, resource: scope.resource, ...(namespace && { namespace }) };
    const page = await translated(after, () => this.#history.changes(filter, after, upTo, MAX_PAGE));
    const events: WatchEvent[] = [];
    for (const change of page.changes) events.push(await this.#event(scope, change));
    return { events, position: page.position };
  }

  /** The sequence up to which everything is in the history. */
  async recordedUpTo(): Promise<number> {
    return (await translated(0, () => this.#history.cursor())).sequence;
  }

  /** When the object with this uid was deleted, in RFC 3339; `never` while it was not; undefined when the history knows no such object. */
  async endOf(uid: string): Promise<string | undefined> {
    const last = (await translated(0, () => this.#history.byUid(uid))).reduce<Version | undefined>(
      (newest, one) => (newest && newest.sequence > one.sequence ? newest : one),
      undefined,
    );
    return last && (last.verb === 'delete' ? last.time : 'never');
  }

  close(): Promise<void> {
    return this.#history.close();
  }

  async #event(scope: Scope, change: Change): Promise<WatchEvent> {
    const entry = await this.#entry(scope, change);
    if (change.previous === undefined) return { type: change.verb === 'delete' ? 'DELETED' : 'ADDED', entry };
    const previous = await this.#entry(scope, { ...change, object: change.previous });
    return { type: change.verb === 'delete' ? 'DELETED' : 'MODIFIED', entry, previous };
  }

  async #entry(
    scope: Scope,
    { key, sequence, object: json }: Pick<Version, 'key' | 'sequence' | 'object'>,
  ): Promise<Entry> {
    const object = JSON.parse(json) as ApiObject;
    await this.#sealer.unseal(object);
    return makeEntry({ key, sequence, object, selectableFields: scope.selectableFields });
  }
}

function requireRecorded(scope: Scope, revision: number): void {
  if (scope.storage !== 'log') throw tooOld(revision);
}

export const tooOld = (revision: number) => expired(`too old resource version: ${revision}`);

async function translated<T>(revision: number, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    if (error instanceof HistoryGoneError) throw tooOld(revision);
    if (error instanceof HistoryBehindError || error instanceof StateUnavailableError) {
      throw unavailable(`the history cannot answer for revision ${revision} at present: ${error.message}`, {
        cause: error,
      });
    }
    throw error;
  }
}
