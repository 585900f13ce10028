/** How the verbs reach the API server: the kubeconfig, context and namespace that kubectl would take, and after those the instance of this folder. Made by `index.ts` for each verb. */
import { readKubeconfig } from '../../sdk/kubeconfig.ts';
import { Transport, type Answer } from '../../sdk/http-transport.ts';
import { kubeconfigFiles } from './kubeconfig-files.ts';

export interface ConnectionOptions {
  readonly kubeconfig?: string | undefined;
  readonly context?: string | undefined;
  readonly namespace?: string | undefined;
  readonly timeoutMs?: number;
}

const TIMEOUT_MS = 30_000;

export class Connection {
  /** `-n`, or the context's, or `default`. */
  readonly namespace: string;
  readonly #transport: Transport;

  /** Throws with a sentence that says what is missing. */
  constructor(options: ConnectionOptions) {
    const access = readKubeconfig(kubeconfigFiles(options.kubeconfig), options.context);
    this.namespace = options.namespace ?? access.namespace ?? 'default';
    this.#transport = new Transport({ access, userAgent: 'reckon', timeoutMs: options.timeoutMs ?? TIMEOUT_MS });
  }

  /** Rejects with ApiError and ApiUnreachableError. */
  get(target: string, query: Readonly<Record<string, string | undefined>> = {}, accept?: string): Promise<Answer> {
    return this.#transport.call({
      method: 'GET',
      path: `${target}${searchOf(query)}`,
      ...(accept && { headers: { accept } }),
    });
  }

  /** Never repeated: what came of it must be looked at. */
  post(target: string, query: Readonly<Record<string, string | undefined>>, body: unknown): Promise<Answer> {
    return this.#transport.call({ method: 'POST', path: `${target}${searchOf(query)}`, body });
  }

  delete(target: string): Promise<Answer> {
    return this.#transport.call({ method: 'DELETE', path: target });
  }

  close(): void {
    this.#transport.close();
  }
}

function searchOf(query: Readonly<Record<string, string | undefined>>): string {
  const given = Object.entries(query).filter((pair): pair is [string, string] => pair[1] !== undefined);
  return given.length === 0 ? '' : `?${new URLSearchParams(given).toString()}`;
}
