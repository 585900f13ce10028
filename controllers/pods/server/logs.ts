/** `GET /containerLogs/…`: a container's log as it was written, from where and as far as was asked. Called by server.ts. */
import type { ServerResponse } from 'node:http';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { AgentContext } from '../agent-context.ts';
import { findContainer, ServerError } from './find-container.ts';

export async function sendLogs(
  context: AgentContext,
  options: { namespace: string; pod: string; container: string; query: URLSearchParams; response: ServerResponse },
): Promise<void> {
  const { query, response } = options;
  const previous = isTrue(query, 'previous');
  const container = findContainer(context, { ...options, previous });
  const tailLines = wholeNumber(query, 'tailLines');
  const limitBytes = wholeNumber(query, 'limitBytes');
  const sinceMs = sinceTime(context, query);
  const which = query.get('stream') ?? 'All';
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  const log = await context.runtime.logs(container.id, {
    follow: isTrue(query, 'follow'),
    timestamps: isTrue(query, 'timestamps'),
    stdout: which !== 'Stderr',
    stderr: which !== 'Stdout',
    signal: gone.signal,
    ...(tailLines === undefined ? {} : { tailLines }),
    ...(sinceMs === undefined ? {} : { sinceMs }),
  });
  response.writeHead(200, { 'content-type': 'text/plain' });
  response.flushHeaders();
  try {
    if (limitBytes === undefined) await pipeline(log, response);
    else await pipeline(atMost(limitBytes, log), response);
  } catch (error) {
    if (!gone.signal.aborted) throw error;
  } finally {
    log.destroy();
  }
}

function isTrue(query: URLSearchParams, name: string): boolean {
  const value = query.get(name);
  return value === 'true' || value === '1';
}

function wholeNumber(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0)
    throw new ServerError(400, 'BadRequest', `${name} must be a whole number, and is "${text}"`);
  return value;
}

function sinceTime(context: AgentContext, query: URLSearchParams): number | undefined {
  const seconds = wholeNumber(query, 'sinceSeconds');
  if (seconds !== undefined) return context.now() - seconds * 1000;
  const text = query.get('sinceTime');
  if (text === null || text === '') return undefined;
  const time = Date.parse(text);
  if (Number.isNaN(time))
    throw new ServerError(400, 'BadRequest', `sinceTime must be a time as in RFC 3339, and is "${text}"`);
  return time;
}

async function* atMost(limitBytes: number, source: Readable): AsyncGenerator<Buffer> {
  let left = limitBytes;
  if (left === 0) return;
  for await (const chunk of source) {
    const part = (chunk as Buffer).subarray(0, left);
    left -= part.length;
    yield part;
    if (left === 0) return;
  }
}
