/**
 * GET [namespaces/{ns}/]events: what happens, as server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html), each with who did it and in answer to what; on request as CloudEvents. A client that
 * comes back with its `Last-Event-ID` misses nothing; where retention has passed it, it is told so and given what there is. Asked for under `/apis/log.reckon.dev/v1`; see `memory/questions.ts`.
 */
import { once } from 'node:events';
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import type { FollowFilter, LogRecord } from '../../event-log/event-log.ts';
import type { Call } from '../call.ts';
import { resourceOf } from '../consumers/event-consumer.ts';
import { badRequest, notAcceptable, tooManyRequests } from '../errors.ts';
import { decode } from '../store/entry.ts';
import { parseLabelSelector, type LabelPredicate } from '../store/selectors.ts';
import { asCloudEvent, asEvent, type EventType, type Told } from './formats.ts';

const HEARTBEAT_MS = 15_000;
/** A client that takes nothing for so long is sent away; it comes back with its last id. */
const STALLED_MS = 60_000;
/** Each follows the log by itself. */
const MAX_STREAMS = 500;
let open = 0;

interface Wanted {
  readonly namespace: string;
  /** Undefined: every kind. */
  readonly resources: readonly { group: string; resource: string }[] | undefined;
  readonly name: string | undefined;
  readonly selects: LabelPredicate | undefined;
  readonly format: (told: Told) => object;
  readonly after: number | 'snapshot' | 'now';
}

export async function events(call: Call): Promise<void> {
  const wanted = wantedBy(call);
  requireSight(call, wanted);
  if (open >= MAX_STREAMS) throw tooManyRequests(5);
  open += 1;
  try {
    await new EventStream(call, wanted).run();
  } finally {
    open -= 1;
  }
}

function wantedBy({ query, request, target, services }: Call): Wanted {
  const accept = request.headers.accept ?? '*/*';
  const cloud = query.get('format') === 'cloudevents' || accept.includes('application/cloudevents+json');
  if (!cloud && !/text\/(event-stream|\*)|\*\/\*/.test(accept)) throw notAcceptable(['text/event-stream']);
  const format = query.get('format');
  if (format !== null && format !== 'cloudevents' && format !== 'reckon')
    throw badRequest(`format: Invalid value: ${JSON.stringify(format)}: expected reckon or cloudevents`);
  const resources = query.get('resources')?.split(',').filter(Boolean).map(resourceOf);
  for (const { group, resource } of resources ?? []) {
    const found = services.registry.resources().find((each) => each.group === group && each.resource === resource);
    const text = `${group || 'core'}/${resource}`;
    if (!found)
      throw badRequest(
        `resources: Invalid value: ${JSON.stringify(text)}: expected <group>/<resource>, such as core/pods or apps/deployments`,
      );
    if (found.storage !== 'log')
      throw badRequest(`resources: Invalid value: ${JSON.stringify(text)}: not kept in the event log`);
  }
  return {
    namespace: target.namespace,
    resources: resources?.length ? resources : undefined,
    name: query.get('name') ?? undefined,
    selects: parseLabelSelector(query.get('labelSelector')),
    format: cloud ? asCloudEvent : asEvent,
    after: beginning(request.headers['last-event-id'] ?? query.get('after') ?? ''),
  };
}

function beginning(given: string | string[]): Wanted['after'] {
  const text = String(given).trim();
  if (text === '') return 'snapshot';
  if (text === 'now') return 'now';
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw badRequest(`Last-Event-ID: Invalid value: ${JSON.stringify(text.slice(0, 64))}: expected a revision, or now`);
}

/** Every kind that is asked for, one must be allowed to watch. Throws Forbidden. */
function requireSight({ services, identity }: Call, { resources, namespace, name = '' }: Wanted): void {
  for (const { group, resource } of resources ?? [{ group: '*', resource: '*' }])
    services.authorizer.require(identity, { verb: 'watch', group, resource, subresource: '', namespace, name });
}

class EventStream {
  readonly #call: Call;
  readonly #wanted: Wanted;
  /** Whether the selector chose an object when it was last seen. */
  readonly #chosen = new Map<string, boolean>();
  /** Whether every chosen one is in `#chosen`. */
  #knowsChosen = false;
  #position = 0;

  constructor(call: Call, wanted: Wanted) {
    this.#call = call;
    this.#wanted = wanted;
  }

  async run(): Promise<void> {
    const { services, response, signal, definition } = this.#call;
    const { after } = this.#wanted;
    await services.store.current(definition);
    const floor = await services.events.floor();
    const newest = services.store.stream(definition).position;
    response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8', 'X-Accel-Buffering': 'no' });
    response.flushHeaders();
    const heartbeat = setInterval(() => this.#beat(), HEARTBEAT_MS);
    try {
      if (after === 'snapshot') await this.#snapshot();
      else if (after === 'now') this.#position = newest;
      else if (floor > after + 1 || after > newest)
        await this.#reset(after > newest ? 'the log ends before that revision' : 'retention has passed that revision');
      else this.#position = after;
      while (!signal.aborted) await this.#follow();
    } finally {
      clearInterval(heartbeat);
      response.end();
    }
  }

  /** Until the client has gone, or the log cannot be followed without a gap. */
  async #follow(): Promise<void> {
    const { services, signal } = this.#call;
    const { namespace, resources } = this.#wanted;
    const filters = (resources ?? [{ group: '*', resource: '*' }]).map((each): FollowFilter => ({
      ...each,
      ...(namespace && { namespace }),
    }));
    for await (const followed of services.events.follow({ from: { after: this.#position }, filters, signal })) {
      if (followed.kind === 'reset') return this.#reset('the log was trimmed or restored');
      for (const record of followed.records) {
        await this.#tell(record);
        this.#position = Math.max(this.#position, record.sequence);
      }
      this.#position = Math.max(this.#position, followed.position);
    }
  }

  async #reset(reason: string): Promise<void> {
    await this.#write('RESET', { reason });
    await this.#snapshot();
  }

  /** What there is, in one moment. Only its end has an id: who loses the connection before has it all again. */
  async #snapshot(): Promise<void> {
    const { services, definition } = this.#call;
    const { namespace, selects, format } = this.#wanted;
    const { store } = services;
    this.#position = store.stream(definition).position;
    // Nothing awaits before the last of these is read.
    const entries = this.#definitions().flatMap((each) => store.cache(each).list());
    this.#chosen.clear();
    for (const entry of entries) {
      const { key } = entry;
      if ((namespace && key.namespace !== namespace) || !this.#named(key.name) || (selects && !selects(entry.labels)))
        continue;
      if (selects) this.#chosen.set(`${key.group}/${key.resource}/${entry.id}`, true);
      await this.#write('ADDED', format({ type: 'ADDED', key, revision: entry.sequence, object: decode(entry) }));
    }
    this.#knowsChosen = true;
    await this.#write('SYNCED', { revision: this.#position }, this.#position);
  }

  #definitions(): readonly ResourceDefinition[] {
    const { resources, namespace } = this.#wanted;
    const all = this.#call.services.registry
      .resources()
      .filter(({ storage, namespaced }) => storage === 'log' && (namespaced || !namespace));
    const wanted = resources
      ? all.filter((each) =>
          resources.some(({ group, resource }) => each.group === group && each.resource === resource),
        )
      : all;
    // One of each, whatever versions of it are served.
    return [...new Map(wanted.map((each) => [`${each.group}/${each.resource}`, each])).values()];
  }

  #named(name: string): boolean {
    return this.#wanted.name === undefined || this.#wanted.name === name;
  }

  async #tell(record: LogRecord): Promise<void> {
    const { key, sequence, object: bytes, ...about } = record;
    if (!this.#named(key.name)) return;
    const object = JSON.parse(Buffer.from(bytes).toString()) as ApiObject;
    const type = this.#typeOf(record, object);
    if (type === undefined) return;
    await this.#call.services.events.unseal(object);
    object.metadata.resourceVersion = String(sequence);
    await this.#write(type, this.#wanted.format({ type, key, revision: sequence, object, ...about }), sequence);
  }

  /** As a watch has it: what enters the selection is added, what leaves it is deleted. Undefined: neither before nor now. */
  #typeOf({ key, verb }: LogRecord, object: ApiObject): EventType | undefined {
    const { selects } = this.#wanted;
    const plain = verb === 'delete' ? 'DELETED' : verb === 'create' ? 'ADDED' : 'MODIFIED';
    if (!selects) return plain;
    const id = `${key.group}/${key.resource}/${key.namespace}/${key.name}`;
    const was = this.#chosen.get(id) ?? (!this.#knowsChosen && verb !== 'create');
    const is = verb !== 'delete' && selects(object.metadata.labels ?? {});
    if (is || !this.#knowsChosen) this.#chosen.set(id, is);
    else this.#chosen.delete(id);
    if (is) return was ? 'MODIFIED' : 'ADDED';
    return was ? 'DELETED' : undefined;
  }

  /** An id without data moves a quiet client's place along, so that retention does not pass it. */
  #beat(): void {
    const { response, signal } = this.#call;
    try {
      requireSight(this.#call, this.#wanted);
    } catch {
      response.end('event: FORBIDDEN\ndata: {"reason":"you may no longer watch this"}\n\n');
      return;
    }
    if (!signal.aborted && !response.writableNeedDrain)
      response.write(this.#position > 0 ? `id: ${this.#position}\n\n` : ': here\n\n');
  }

  /** Waits for slow readers; nothing is held for them but this one event. */
  async #write(event: string, data: object, id?: number): Promise<void> {
    const { response, signal } = this.#call;
    if (signal.aborted || response.writableEnded) return;
    const text = `event: ${event}\n${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify(data)}\n\n`;
    if (response.write(text)) return;
    const patience = AbortSignal.any([signal, AbortSignal.timeout(STALLED_MS)]);
    await once(response, 'drain', { signal: patience }).catch(() => response.destroy());
  }
}
