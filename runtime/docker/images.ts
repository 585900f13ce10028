/** Pulling and importing images on a Docker engine, with progress and the engine's own reasons. Used by docker-runtime.ts. */
import type Docker from 'dockerode';
import type { Readable } from 'node:stream';
import {
  RuntimeCallError,
  RuntimeUnavailableError,
  type PullOptions,
  type RegistryCredentials,
} from '../container-runtime.ts';
import { call, START_TIMEOUT_MS, translate } from './calls.ts';

/** A pull that reports nothing for this long has hung. */
const SILENCE_MS = 120_000;

interface ProgressLine {
  readonly id?: string;
  readonly status?: string;
  readonly error?: string;
  readonly progressDetail?: { readonly current?: number; readonly total?: number };
}

export async function pullImage(docker: Docker, reference: string, options: PullOptions): Promise<void> {
  // Handed over beside the options: those go into the address of the request, where others may read them.
  const auth = options.credentials && authConfig(options.credentials);
  const pull = (): Promise<Readable> =>
    docker.pull(reference, {}, undefined as never, auth) as unknown as Promise<Readable>;
  const stream = await call(`pull ${reference}`, pull, SILENCE_MS);
  const layers = new Map<string, { total: number; current: number; done: boolean }>();
  await readProgress(
    docker,
    { what: `pull ${reference}`, stream, ...(options.signal === undefined ? {} : { signal: options.signal }) },
    (line) => {
      if (line.id === undefined || options.onProgress === undefined) return;
      const layer = layers.get(line.id) ?? { total: 0, current: 0, done: false };
      layer.total = line.progressDetail?.total ?? layer.total;
      layer.current = line.progressDetail?.current ?? layer.current;
      layer.done ||= line.status === 'Pull complete' || line.status === 'Already exists';
      layers.set(line.id, layer);
      const all = [...layers.values()];
      options.onProgress({
        layers: all.length,
        layersDone: all.filter(({ done }) => done).length,
        bytes: all.reduce((sum, { total }) => sum + total, 0),
        bytesDone: all.reduce((sum, { done, total, current }) => sum + (done ? total : current), 0),
      });
    },
  );
}

function authConfig(credentials: RegistryCredentials): Record<string, string> {
  const { serverAddress: serveraddress } = credentials;
  return 'identityToken' in credentials
    ? { serveraddress, identitytoken: credentials.identityToken }
    : { serveraddress, username: credentials.username, password: credentials.password };
}

export async function importImage(
  docker: Docker,
  options: { readonly reference: string; readonly tar: Readable; readonly changes: readonly string[] },
): Promise<string> {
  const { reference } = options;
  const colon = reference.lastIndexOf(':');
  const stream = (await call(
    `import ${reference}`,
    () =>
      new Promise<Readable>((resolve, reject) => {
        const query = new URLSearchParams({
          fromSrc: '-',
          repo: reference.slice(0, colon),
          tag: reference.slice(colon + 1),
        });
        for (const change of options.changes) query.append('changes', change);
        docker.modem.dial(
          {
            path: `/images/create?${query.toString()}&`,
            method: 'POST',
            file: options.tar,
            isStream: true,
            statusCodes: { 200: true, 500: 'server error' },
          },
          (error: unknown, response: unknown) =>
            error === null || error === undefined ? resolve(response as Readable) : reject(error as Error),
        );
      }),
    START_TIMEOUT_MS,
  )) as Readable;
  let id = '';
  await readProgress(docker, { what: `import ${reference}`, stream }, (line) => {
    if (line.status?.startsWith('sha256:') === true) id = line.status;
  });
  return id;
}

/** Reads a stream of progress lines to its end; a line with an error is the outcome. */
async function readProgress(
  docker: Docker,
  options: { readonly what: string; readonly stream: Readable; readonly signal?: AbortSignal },
  onLine: (line: ProgressLine) => void,
): Promise<void> {
  const { stream, what } = options;
  const abort = (): void => void stream.destroy(new RuntimeUnavailableError(`${what}: stopped`));
  options.signal?.addEventListener('abort', abort, { once: true });
  let silence: NodeJS.Timeout | undefined;
  const heard = (): void => {
    clearTimeout(silence);
    silence = setTimeout(
      () => stream.destroy(new RuntimeUnavailableError(`${what}: the engine fell silent`)),
      SILENCE_MS,
    );
  };
  heard();
  try {
    await new Promise<void>((resolve, reject) => {
      stream.once('error', reject);
      docker.modem.followProgress(
        stream,
        (error: Error | null, lines: ProgressLine[]) => {
          const failed = (lines ?? []).find((line) => line.error !== undefined);
          if (error !== null) reject(statusless(error));
          else if (failed?.error !== undefined) reject(new RuntimeCallError('failed', failed.error));
          else resolve();
        },
        (line: ProgressLine) => {
          heard();
          onLine(line);
        },
      );
    });
  } catch (error) {
    throw translate(what, error);
  } finally {
    clearTimeout(silence);
    options.signal?.removeEventListener('abort', abort);
  }
}

/** followProgress hands on the engine's own error line as an Error without a status: a refusal, not an outage. */
function statusless(error: Error): Error {
  return (error as { code?: string }).code === undefined
    ? new RuntimeCallError('failed', error.message, { cause: error })
    : error;
}
