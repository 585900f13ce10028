/**
 * A watch: every change after a revision, once, in order, for as long as the client stays. It may begin at any recorded revision: recent ones are in memory, older ones come from the
 * projection's history. A client that reads too slowly is disconnected cleanly, and resumes from the last event it has seen.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
 */
import type { Call } from '../call.ts';
import { expired, type StatusError } from '../errors.ts';
import { isTrue } from '../request.ts';
import { openWatch, type WatchStream } from '../respond.ts';
import { makeEntry, type Entry } from '../store/entry.ts';
import type { WatchEvent } from '../store/resource-cache.ts';
import { parseRevision } from './get.ts';
import { entryFilter, type EntryPredicate } from './list.ts';

const BOOKMARK_INTERVAL_MS = 60_000;
const MIN_TIMEOUT_SECONDS = 1_800;
/** Versions read from the history at a time. */
const HISTORY_PAGE = 500;

export async function watch(call: Call): Promise<void> {
  const { definition, services, query } = call;
  const stream = services.store.stream(definition);
  const cache = services.store.cache(definition);
  const filter = entryFilter(call);
  const given = query.get('resourceVersion');
  const from = given === null || given === '' ? 0 : parseRevision(given);
  const initial = query.has('sendInitialEvents') ? isTrue(query.get('sendInitialEvents')) : from === 0;
  const bookmarks = isTrue(query.get('allowWatchBookmarks'));

  if (initial) await (given ? stream.reached(from) : services.store.current(definition));
  else if (from > stream.position) await stream.reached(from);
  const older = initial ? [] : await eventsBefore(call, from);

  // From here to the subscription nothing awaits, so no event can fall between what is sent and what is subscribed to.
  const output = openWatch(call);
  const send = (event: WatchEvent) => forward(output, event, filter);
  if (initial) {
    for (const entry of cache.list()) if (!filter || filter(entry)) output.event('ADDED', entry);
    if (query.has('sendInitialEvents') && bookmarks) output.bookmark(stream.position, { initialEventsEnd: true });
  } else {
    older.forEach(send);
    const last = older.at(-1)?.entry.sequence ?? from;
    const recent = cache.since(Math.max(last, from));
    if (!recent) return output.fail(tooOld(from));
    recent.forEach(send);
  }
  const unsubscribe = cache.watch({ event: send, lost: () => output.fail(tooOld(from)) });
  const timeoutSeconds = Number(query.get('timeoutSeconds')) || MIN_TIMEOUT_SECONDS * (1 + Math.random());
  const timer = setTimeout(() => output.end(), Math.min(timeoutSeconds * 1000, 2 ** 31 - 1));
  const ticker = bookmarks ? setInterval(() => output.bookmark(stream.position), BOOKMARK_INTERVAL_MS) : undefined;
  await output.closed;
  unsubscribe();
  clearTimeout(timer);
  clearInterval(ticker);
}

/** A change as a watcher with this selector sees it: entering the selection is ADDED, leaving it is DELETED. */
function forward(output: WatchStream, event: WatchEvent, filter: EntryPredicate | undefined): void {
  const { type, entry, previous } = event;
  if (!filter || type === 'DELETED') {
    if (!filter || filter(previous ?? entry)) output.event(type, entry);
    return;
  }
  const is = filter(entry);
  const was = previous !== undefined && filter(previous);
  if (is) output.event(was ? 'MODIFIED' : 'ADDED', entry);
  else if (was) output.event('DELETED', entry);
}

const tooOld = (from: number): StatusError => expired(`too old resource version: ${from}`);

/** The events after `from` that memory no longer has. */
async function eventsBefore(call: Call, from: number): Promise<WatchEvent[]> {
  const { definition, services, target } = call;
  const cache = services.store.cache(definition);
  const events: WatchEvent[] = [];
  let after = from;
  while (cache.since(after) === undefined) {
    if (!services.history || definition.storage !== 'log') throw tooOld(from);
    const { group, resource, selectableFields, namespaced } = definition;
    const scope = { group, resource, ...(namespaced && target.namespace && { namespace: target.namespace }) };
    const page = await services.history.changes(scope, { after, limit: HISTORY_PAGE });
    for (const { key, sequence, verb, object, previous } of page.changes) {
      const entry = makeEntry({ key, sequence, object, selectableFields });
      const before: Entry | undefined =
        previous && makeEntry({ key, sequence: previous.sequence, object: previous.object, selectableFields });
      events.push({
        type: verb === 'delete' ? 'DELETED' : before ? 'MODIFIED' : 'ADDED',
        entry,
        ...(before && { previous: before }),
      });
    }
    if (page.upTo <= after) throw tooOld(from);
    after = page.upTo;
  }
  return events;
}
