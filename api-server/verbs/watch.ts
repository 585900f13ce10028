/**
 * A watch: every change after a revision, once, in order, for as long as the client stays. It may begin at any recorded revision: recent ones are in memory, older ones come from the
 * projection's history. A client that reads too slowly is disconnected cleanly, and resumes from the last event it has seen.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
 */
import type { Call } from '../call.ts';
import { isTrue } from '../request.ts';
import { openWatch, type WatchStream } from '../respond.ts';
import { tooOld } from '../store/past.ts';
import type { WatchEvent } from '../store/resource-cache.ts';
import { parseRevision } from './get.ts';
import { entryFilter, type EntryPredicate } from './list.ts';

const BOOKMARK_INTERVAL_MS = 60_000;
const MIN_TIMEOUT_SECONDS = 1_800;

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
  const older = initial ? { events: [], position: from } : await eventsBefore(call, from);

  // From here to the subscription nothing awaits, so no event can fall between what is sent and what is subscribed to.
  const output = openWatch(call);
  const send = (event: WatchEvent) => forward(output, event, filter);
  if (initial) {
    for (const entry of cache.list()) if (!filter || filter(entry)) output.event('ADDED', entry);
    if (query.has('sendInitialEvents') && bookmarks) output.bookmark(stream.position, { initialEventsEnd: true });
  } else {
    older.events.forEach(send);
    const recent = cache.since(older.position);
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

/** The events after `from` that memory no longer has. */
async function eventsBefore(call: Call, from: number): Promise<{ events: WatchEvent[]; position: number }> {
  const { definition, services, target } = call;
  const cache = services.store.cache(definition);
  const events: WatchEvent[] = [];
  let after = from;
  while (cache.since(after) === undefined) {
    if (!services.past) throw tooOld(from);
    const upTo = services.store.stream(definition).position;
    const page = await services.past.events(definition, {
      after,
      upTo,
      ...(definition.namespaced && target.namespace && { namespace: target.namespace }),
    });
    events.push(...page.events);
    if (page.position <= after) throw tooOld(from);
    after = page.position;
  }
  return { events, position: after };
}
