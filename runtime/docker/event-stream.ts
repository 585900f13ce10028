/** The engine's events as the port's: one line of JSON each, reconnected for ever, with `down` and `resync` around every break. Used by docker-runtime.ts. */
import type Docker from 'dockerode';
import type { Readable } from 'node:stream';
import type { RuntimeEvent } from '../container-runtime.ts';
import { call } from './calls.ts';

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 3_000;
/** A line longer than this is no event. */
const MAX_LINE_BYTES = 1 << 20;

interface DockerEvent {
  readonly Type?: string;
  readonly Action?: string;
  readonly Actor?: { readonly ID?: string; readonly Attributes?: Record<string, string> };
}

export async function* followEvents(
  docker: Docker,
  options: { readonly labels: Readonly<Record<string, string>>; readonly signal: AbortSignal },
): AsyncGenerator<RuntimeEvent> {
  const { signal } = options;
  const matches = (attributes: Record<string, string>): boolean =>
    Object.entries(options.labels).every(([key, value]) => attributes[key] === value);
  let retryMs = FIRST_RETRY_MS;
  let wasDown = false;
  while (!signal.aborted) {
    try {
      const stream = (await call('events', (abortSignal) =>
        docker.getEvents({
          filters: { type: ['container', 'image', 'volume', 'network'] },
          abortSignal: AbortSignal.any([signal, abortSignal]),
        } as Docker.GetEventsOptions),
      )) as Readable;
      wasDown = false;
      retryMs = FIRST_RETRY_MS;
      yield { kind: 'resync' };
      for await (const event of parseLines(stream)) {
        const translated = translateEvent(event, matches);
        if (translated !== undefined) yield translated;
      }
      if (!signal.aborted) throw new Error('the engine closed its event stream');
    } catch (error) {
      if (signal.aborted) return;
      if (!wasDown) yield { kind: 'down', reason: error instanceof Error ? error.message : String(error) };
      wasDown = true;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(done, retryMs);
        function done(): void {
          clearTimeout(timer);
          signal.removeEventListener('abort', done);
          resolve();
        }
        signal.addEventListener('abort', done);
      });
      retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
    }
  }
}

async function* parseLines(stream: Readable): AsyncGenerator<DockerEvent> {
  let rest = '';
  for await (const chunk of stream) {
    rest += (chunk as Buffer).toString('utf8');
    let newline = rest.indexOf('\n');
    while (newline !== -1) {
      const line = rest.slice(0, newline);
      rest = rest.slice(newline + 1);
      newline = rest.indexOf('\n');
      if (line.trim() === '') continue;
      yield JSON.parse(line) as DockerEvent;
    }
    if (rest.length > MAX_LINE_BYTES) throw new Error('an event of the engine is too long');
  }
}

/** Execs report themselves as container actions such as `exec_die`; nothing of ours waits for them. */
function translateEvent(
  event: DockerEvent,
  matches: (attributes: Record<string, string>) => boolean,
): RuntimeEvent | undefined {
  const action = event.Action ?? '';
  const attributes = event.Actor?.Attributes ?? {};
  const id = event.Actor?.ID ?? '';
  switch (event.Type) {
    case 'container':
      if (
        action.startsWith('exec_') ||
        action === 'resize' ||
        action === 'attach' ||
        action === 'top' ||
        !matches(attributes)
      )
        return undefined;
      return { kind: 'container', action, id, labels: attributes };
    case 'image':
      return { kind: 'image', action, reference: attributes['name'] ?? id };
    case 'volume':
      return action === 'mount' || action === 'unmount' ? undefined : { kind: 'volume', action, name: id };
    case 'network':
      return action === 'create' || action === 'destroy'
        ? { kind: 'network', action, name: attributes['name'] ?? id }
        : undefined;
    default:
      return undefined;
  }
}
