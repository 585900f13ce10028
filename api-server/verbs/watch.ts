/**
 * A watch: every change after a revision, once, in order, for as long as the client stays. It may begin at any recorded revision: recent ones are in memory, older ones come from the
 * projection's history. A client that reads too slowly is disconnected cleanly, and resumes from the last event it has seen.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
 */
import type { ResourceDefinition } from '../../api-schemas/schema.ts';
import type { Call } from '../call.ts';
import { present, presentAll } from '../custom-resources/presentation.ts';
import { badRequest, expired, internal, invalidOption, StatusError } from '../errors.ts';
import { isTrue } from '../request.ts';
import { tooOld } from '../store/past.ts';
import { RECENT_EVENTS, type WatchEvent } from '../store/resource-cache.ts';
import { openWatch, type WatchStream } from '../watch-stream.ts';
import { decode, type Entry } from '../store/entry.ts';
import { parseRevision, readAtLeast } from './get.ts';
import { entryFilter, placeFilter, type EntryPredicate } from './list.ts';

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

  if (query.has('at')) throw badRequest('at: a watch begins at a resourceVersion');
  checkInitialEvents(call);
  if (initial) await readAtLeast(call, given);
  else if (from === 0 || from > stream.position) await readAtLeast(call, given);
  // From no revision in particular, and without what stands now: from here on.
  const older =
    initial || from === 0 ? { events: [], position: stream.position } : await eventsBefore(call, from).catch(gone);
  // As Kubernetes says it: in the stream.
  if (older instanceof StatusError) return openWatch(call).fail(older);

  // From here to the subscription nothing awaits, so no event can fall between what is sent and what is subscribed to.
  const recent = initial ? [] : cache.since(older.position);
  const near = definition.custom && placeFilter(call);
  const standing = initial ? cache.list() : [];
  const entries = near ? standing.filter(near) : standing;
  const position = stream.position;
  const output = openWatch(call);
  // Its events would be told by a schema that is no longer the kind's.
  const retired = definition.custom?.retired;
  if (retired?.aborted) return output.end();
  if (!recent) return output.fail(tooOld(from));
  const line = new InOrder(output);
  const send = (event: WatchEvent) => {
    if (near && !near(event.entry)) return;
    line.add(presented(definition, event, filter), (told) => forward(output, told, filter));
  };
  const mark = (revision: number, options?: { initialEventsEnd: boolean }) =>
    line.add(revision, () => output.bookmark(revision, options));
  const timeoutSeconds = Number(query.get('timeoutSeconds')) || MIN_TIMEOUT_SECONDS * (1 + Math.random());
  const timer = setTimeout(() => output.end(), Math.min(timeoutSeconds * 1000, 2 ** 31 - 1));
  const retire = () => output.end();
  retired?.addEventListener('abort', retire);
  let waiting: WatchEvent[] | undefined = [];
  const unsubscribe = cache.watch({
    event(event) {
      if (!waiting) send(event);
      else if (waiting.push(event) > RECENT_EVENTS) output.fail(tooOld(from));
    },
    lost: () => output.fail(tooOld(from)),
  });
  // However much there is to begin with, it goes as fast as the client takes it; what happens meanwhile follows.
  try {
    for (const entry of await presentAll(definition, entries)) {
      if (filter && !filter(entry)) continue;
      output.event('ADDED', entry);
      await output.drained();
    }
    const past = [...older.events, ...recent].filter(({ entry }) => !near || near(entry));
    // Together, where a webhook has to convert them.
    await presentAll(
      definition,
      past.flatMap((event) => concerned(event, filter)),
    );
    for (const event of past) {
      send(event);
      await output.drained();
    }
  } catch (error) {
    output.fail(asFailure(error));
  }
  if (initial && query.has('sendInitialEvents') && bookmarks) mark(position, { initialEventsEnd: true });
  for (const event of waiting) send(event);
  waiting = undefined;

  const ticker = bookmarks ? setInterval(() => mark(stream.position), BOOKMARK_INTERVAL_MS) : undefined;
  await output.closed;
  unsubscribe();
  retired?.removeEventListener('abort', retire);
  clearTimeout(timer);
  clearInterval(ticker);
}

/** https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists */
function checkInitialEvents({ query }: Call): void {
  const match = query.get('resourceVersionMatch') ?? '';
  const forbid = (message: string) =>
    invalidOption('ListOptions', {
      reason: 'FieldValueForbidden',
      field: 'resourceVersionMatch',
      message: `Forbidden: ${message}`,
    });
  if (query.has('sendInitialEvents') && match !== 'NotOlderThan')
    throw forbid('sendInitialEvents requires setting resourceVersionMatch to NotOlderThan');
  if (!query.has('sendInitialEvents') && match !== '')
    throw forbid('resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided');
  if (match !== '' && query.get('continue'))
    throw forbid('resourceVersionMatch is forbidden when continue is provided');
}

/** The objects of an event that a watcher has to do with: what went before is looked at by selectors alone. */
const concerned = ({ entry, previous }: WatchEvent, filter: EntryPredicate | undefined): readonly Entry[] =>
  filter && previous ? [entry, previous] : [entry];

function presented(
  definition: ResourceDefinition,
  event: WatchEvent,
  filter: EntryPredicate | undefined,
): WatchEvent | Promise<WatchEvent> {
  if (!definition.custom) return event;
  const told = ([entry = event.entry, previous]: readonly Entry[]): WatchEvent => ({
    type: event.type,
    entry,
    ...(previous && { previous }),
  });
  const read = concerned(event, filter).map((entry) => present(definition, entry));
  if (!read.some((one) => one instanceof Promise)) return told(read as Entry[]);
  return Promise.all(read.map(async (one) => one)).then(told);
}

/** What goes to a watcher, in the order in which it is added, though some of it has to be converted first. What cannot be ends the watch, and its client lists again. */
class InOrder {
  readonly #output: WatchStream;
  #last: Promise<void> | undefined;
  #waiting = 0;

  constructor(output: WatchStream) {
    this.#output = output;
  }

  add<T>(value: T | Promise<T>, send: (value: T) => void): void {
    if (!this.#last && !(value instanceof Promise)) return send(value);
    if (++this.#waiting > RECENT_EVENTS)
      return this.#output.fail(expired('too many events wait for their conversion; list again'));
    const all = Promise.all([value, this.#last]);
    const last = all
      .then(([ready]) => send(ready))
      .catch((error: unknown) => this.#output.fail(asFailure(error)))
      .finally(() => {
        this.#waiting--;
        if (this.#last === last) this.#last = undefined;
      });
    this.#last = last;
  }
}

const asFailure = (error: unknown): StatusError =>
  error instanceof StatusError ? error : internal(error instanceof Error ? error.message : String(error));

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
  else if (was) output.event('DELETED', lastSelected(previous, entry));
}

/** The object as it was while it was selected, under the revision at which it left: of what it is now, this watcher is told nothing. */
function lastSelected(previous: Entry, left: Entry): Entry {
  const known = lastSelections.get(left);
  if (known) return known;
  const object = decode(previous);
  object.metadata.resourceVersion = String(left.sequence);
  const entry = { ...previous, sequence: left.sequence, bytes: Buffer.from(JSON.stringify(object)) };
  lastSelections.set(left, entry);
  return entry;
}

/** Of each entry by which an object left somebody's selection: made once for all whom it has left. */
const lastSelections = new WeakMap<Entry, Entry>();

/** What was trimmed. */
function gone(error: unknown): StatusError {
  if (error instanceof StatusError && error.reason === 'Expired') return error;
  throw error;
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
