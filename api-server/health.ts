/**
 * `/healthz`, `/livez` and `/readyz`: whether this server runs, and whether it should be sent requests; each of its checks alone too, told in full with `?verbose`, left out with `?exclude=`. Asked by `server.ts`.
 * https://kubernetes.io/docs/reference/using-api/health-checks/
 */

/** Undefined, or what is wrong. */
export type Check = () => Promise<string | undefined> | string | undefined;

export type Checks = ReadonlyMap<string, Check>;

const ENDPOINTS = ['healthz', 'livez', 'readyz'];
const CHECK_MS = 5_000;
const PATH = /^\/(healthz|livez|readyz)(?:\/([^/]+))?\/?$/;

export interface HealthAnswer {
  readonly code: 200 | 404 | 500;
  readonly text: string;
}

/** Every endpoint by name, with its checks in order: alive is who answers; ready is who can answer for the cluster. */
export function healthChecks(readiness: Checks, stopping: () => boolean): ReadonlyMap<string, Checks> {
  const ping: Check = () => undefined;
  const shutdown: Check = () => (stopping() ? 'the server is stopping' : undefined);
  const alive = new Map([['ping', ping]]);
  const ready = new Map([['ping', ping], ...readiness, ['shutdown', shutdown] as const]);
  return new Map(ENDPOINTS.map((name) => [name, name === 'readyz' ? ready : alive]));
}

/** Undefined where the path is about something else. */
export async function answerHealth(
  { pathname, searchParams }: URL,
  endpoints: ReadonlyMap<string, Checks>,
): Promise<HealthAnswer | undefined> {
  const [, endpoint = '', only] = PATH.exec(pathname) ?? [];
  const checks = endpoints.get(endpoint);
  if (!checks) return undefined;
  if (only !== undefined) return answerOne(checks.get(only));
  const excluded = new Set(searchParams.getAll('exclude'));
  const results = await Promise.all(
    [...checks].map(async ([name, check]) => ({ name, fault: excluded.delete(name) ? null : await settled(check) })),
  );
  const failed = results.some(({ fault }) => typeof fault === 'string');
  if (!failed && !searchParams.has('verbose')) return { code: 200, text: 'ok' };
  const lines = results.map(({ name, fault }) =>
    fault === null ? `[+]${name} excluded: ok` : fault === undefined ? `[+]${name} ok` : `[-]${name} failed: ${fault}`,
  );
  if (excluded.size > 0)
    lines.push(
      `warn: some health checks cannot be excluded: no matches for ${[...excluded].map((name) => JSON.stringify(name)).join(', ')}`,
    );
  lines.push(`${endpoint} check ${failed ? 'failed' : 'passed'}`);
  return { code: failed ? 500 : 200, text: `${lines.join('\n')}\n` };
}

async function answerOne(check: Check | undefined): Promise<HealthAnswer> {
  if (!check) return { code: 404, text: '404 page not found\n' };
  const fault = await settled(check);
  return fault === undefined ? { code: 200, text: 'ok' } : { code: 500, text: `internal server error: ${fault}\n` };
}

/** A check that does not answer has failed. */
async function settled(check: Check): Promise<string | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(() => resolve(`no answer within ${CHECK_MS / 1000} s`), CHECK_MS);
  });
  try {
    return await Promise.race([check(), late]);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    clearTimeout(timer);
  }
}
