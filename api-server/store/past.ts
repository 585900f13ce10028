/**
 * Reads at past revisions, from the projection's history: whole resources as they stood, and the events that memory no longer has. What the history cannot answer is 410 Gone, what it cannot answer now is 503.
 */
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import type { ObjectKey } from '../../event-log/event-log.ts';
import { HistoryBehindError, HistoryGoneError, StateUnavailableError } from '../../state/errors.ts';
import {
  MAX_PAGE,
  type Change,
  type History,
  type PageStart,
  type Standing,
  type Version,
} from '../../state/history.ts';
import { expired, unavailable } from '../errors.ts';
import { byId, makeEntry, type Entry } from './entry.ts';
import type { WatchEvent } from './resource-cache.ts';
import type { Sealer } from './seal.ts';

type Scope = Pick<ResourceDefinition, 'group' | 'resource' | 'selectableFields' | 'storage'>;

/** How long a read waits for the projection to come to what the log has had all along. */
const REACH_MS = 2_500;

/** A version with its object opened: sealed fields too. */
export interface OpenVersion extends Omit<Version, 'object'> {
  readonly object: ApiObject;
}

/** How an object stood at a revision. */
export interface OpenStanding extends Omit<Standing, 'object'> {
  readonly object: ApiObject;
  /** Its secret fields are gone: their key was destroyed. */
  readonly isLost: boolean;
}

/** An object that stood differently at two revisions; at least one side is there. */
export interface OpenDifference {
  readonly key: ObjectKey;
  readonly before?: OpenStanding;
  readonly after?: OpenStanding;
}

export class Past {
  readonly #history: History;
  readonly #sealer: Sealer;

  constructor(history: History, sealer: Sealer) {
    this.#history = history;
    this.#sealer = sealer;
  }

  /** Every object of the resource, or of one namespace, as it stood at a revision, by namespace and name. */
  async entriesAt(scope: Scope, revision: number, namespace?: string): Promise<readonly Entry[]> {
    requireRecorded(scope, revision);
    const { group, resource } = scope;
    const filter = { group, resource, ...(namespace && { namespace }) };
    const entries: Entry[] = [];
    let after: PageStart | undefined;
    do {
      const page = await translated(revision, () =>
        this.#history.listAt(filter, revision, { ...(after && { after }), limit: MAX_PAGE }),
      );
      for (const version of page.items) entries.push(await this.#entry(scope, version));
      after = page.next;
    } while (after);
    return entries.sort(byId);
  }

  /** One object as it stood at a revision; undefined where it was not alive. */
  async entryAt(scope: Scope, key: ObjectKey, revision: number): Promise<Entry | undefined> {
    requireRecorded(scope, revision);
    const version = await translated(revision, () => this.#history.objectAt(key, revision));
    return version && this.#entry(scope, version);
  }

  /** Where a read at a revision stands, once the history has come so far: there, or at the end of its transaction. */
  momentAt(revision: number): Promise<number> {
    return translated(revision, async () => {
      await this.#history.reach(revision, REACH_MS);
      return this.#history.moment(revision);
    });
  }

  /** The last revision at or before a time; `newest` is the log's. 0 before the first. */
  sequenceAt(time: Date, newest: number): Promise<number> {
    return translated(newest, async () => {
      const { sequence, recordedUpTo } = await this.#history.sequenceAt(time);
      // Something later is recorded, so nothing of that time is still to come.
      if (sequence < recordedUpTo || recordedUpTo >= newest) return sequence;
      await this.#history.reach(newest, REACH_MS);
      return (await this.#history.sequenceAt(time)).sequence;
    });
  }

  /** When the newest record at or before a revision was written, in milliseconds. */
  async timeOf(revision: number): Promise<number | undefined> {
    const time = await translated(revision, () => this.#history.timeAt(revision));
    return time === undefined ? undefined : Date.parse(time);
  }

  /** Versions under a name, newest first, over all its lives. `before` is exclusive. */
  async versions(key: ObjectKey, options: { before?: number; limit: number }): Promise<readonly OpenVersion[]> {
    const versions = await translated(options.before ?? 0, () => this.#history.versions(key, options));
    return Promise.all(versions.map((version) => this.#open(version)));
  }

  async recordAt(sequence: number): Promise<OpenVersion | undefined> {
    const version = await translated(sequence, () => this.#history.recordAt(sequence));
    return version && this.#open(version);
  }

  /** The first and the newest record of the newest life of a name. */
  async newestLife(key: ObjectKey): Promise<{ first: OpenVersion; last: OpenVersion } | undefined> {
    const life = await translated(0, () => this.#history.newestLife(key));
    return life && { first: await this.#open(life.first), last: await this.#open(life.last) };
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

  /** What stood differently at two revisions, over all kinds. Both stand where `momentAt` has put them. */
  async differences(options: {
    from: number;
    to: number;
    namespace?: string | undefined;
    limit: number;
  }): Promise<readonly OpenDifference[]> {
    const found = await translated(options.from, () => this.#history.differences(options));
    return Promise.all(
      found.map(async ({ key, before, after }) => {
        const [then, now] = [before && (await this.#openStanding(before)), after && (await this.#openStanding(after))];
        return { key, ...(then && { before: then }), ...(now && { after: now }) };
      }),
    );
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

  async #open(version: Version): Promise<OpenVersion> {
    const object = JSON.parse(version.object) as ApiObject;
    await this.#sealer.unseal(object);
    return { ...version, object };
  }

  async #openStanding(standing: Standing): Promise<OpenStanding> {
    const object = JSON.parse(standing.object) as ApiObject;
    const isLost = !(await this.#sealer.open(object));
    return { ...standing, object, isLost };
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

/** What the history cannot answer becomes 410, what it cannot answer now 503. */
export async function translated<T>(revision: number, read: () => Promise<T>): Promise<T> {
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
