/** How far each follower of the log has come, as far as this server knows. Asked for under `/apis/log.reckon.dev/v1/status`; see `questions.ts`. */
import type { Call } from '../call.ts';
import { StatusError } from '../errors.ts';
import { sendJson } from '../respond.ts';
import { MEMORY_API_VERSION } from './history.ts';

interface Follower {
  readonly name: string;
  /** Everything up to here is in; absent when it cannot be asked. */
  readonly position?: number;
  /** Records between it and the log's end. */
  readonly lag?: number;
  readonly fault?: string;
}

export async function status(call: Call): Promise<void> {
  const { definition, services } = call;
  await services.store.current(definition);
  const { position } = services.store.stream(definition);
  const recorded = services.past?.recordedUpTo() ?? Promise.reject(new Error('this API server has no database'));
  const projection = await recorded.then<Follower, Follower>(
    (reached) => ({ name: 'projection', position: reached, lag: Math.max(0, position - reached) }),
    (error: Error) => {
      if (error instanceof StatusError && error.code !== 503) throw error;
      return { name: 'projection', fault: error.message };
    },
  );
  sendJson(call, 200, {
    kind: 'ClusterStatus',
    apiVersion: MEMORY_API_VERSION,
    revision: position,
    followers: [{ name: 'api-server', position, lag: 0 }, projection] satisfies readonly Follower[],
  });
}
