/**
 * Connections into a pod's own network, where also what listens on its loopback alone is reached. A small process enters the network of one of the pod's containers, connects there, and hands the open socket back;
 * nothing of it stays in the way of the bytes. One for each forwarding session that needs it; used by port-forward.ts.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { connect, Socket } from 'node:net';
import path from 'node:path';
import { packageRoot } from '../../../api-schemas/registry.ts';
import type { Container } from '../../../runtime/container-runtime.ts';
import type { Logger } from '../../../sdk/logger.ts';
import type { AgentContext } from '../agent-context.ts';
import { POD_UID_LABEL, roleOf } from '../labels.ts';
import type { DialAnswer, DialRequest } from './dial-in-network.ts';

const DIAL_TIMEOUT_MS = 30_000;
const DIALER = path.join(packageRoot(), 'dist', 'controllers', 'pods', 'server', 'dial-in-network.js');

export interface PodPlace {
  readonly namespace: string;
  readonly pod: string;
  readonly uid: string;
}

/** Nobody listens there, or nobody can be reached there. The message is for the client. */
export class DialError extends Error {
  override readonly name = 'DialError';
}

interface Waiting {
  readonly child: ChildProcess;
  readonly resolve: (socket: Socket) => void;
  readonly reject: (error: Error) => void;
}

export class PodDialer {
  readonly #context: AgentContext;
  readonly #place: PodPlace;
  readonly #logger: Logger;
  readonly #waiting = new Map<number, Waiting>();
  #dialer: { readonly child: Promise<ChildProcess>; readonly containerId: string } | undefined;
  #dials = 0;
  #closed = false;

  constructor(context: AgentContext, place: PodPlace, logger: Logger) {
    this.#context = context;
    this.#place = place;
    this.#logger = logger;
  }

  /** The container whose network is dialled in. Throws DialError when none runs. */
  holder(): Container {
    const { namespace, pod, uid } = this.#place;
    const running = this.#context.cache
      .of(namespace, pod)
      .filter(({ labels, state }) => labels[POD_UID_LABEL] === uid && state === 'running');
    const holder = running.find((container) => roleOf(container) === 'sandbox') ?? running[0];
    if (!holder) throw new DialError(`pod ${pod} has no running container`);
    return holder;
  }

  /** Rejects with DialError. */
  async dial(port: number): Promise<Socket> {
    if (this.#closed) throw new DialError('the client has gone');
    const holder = this.holder();
    if (holder.processId === 0) return this.#dialAddress(port);
    try {
      const child = await this.#dialerIn(holder.id);
      return await new Promise<Socket>((resolve, reject) => {
        const id = ++this.#dials;
        const timer = setTimeout(
          () => this.#waiting.get(id)?.reject(new DialError(`no answer within ${DIAL_TIMEOUT_MS} ms`)),
          DIAL_TIMEOUT_MS,
        );
        const settle = () => {
          clearTimeout(timer);
          this.#waiting.delete(id);
        };
        this.#waiting.set(id, {
          child,
          resolve: (socket) => (settle(), resolve(socket)),
          reject: (error) => (settle(), reject(error)),
        });
        child.send({ id, port } satisfies DialRequest, (error) => {
          if (error) this.#waiting.get(id)?.reject(error);
        });
      });
    } catch (error) {
      if (error instanceof DialError) {
        const where = `inside namespace "${holder.id}"`;
        throw new DialError(
          `failed to execute portforward in network namespace "${networkOf(holder)}": failed to connect to localhost:${port} ${where}, ${error.message}`,
        );
      }
      if (this.#closed) throw new DialError('the client has gone', { cause: error });
      this.#logger.warn({ err: error }, 'the network of a pod cannot be entered; its address is dialled instead');
      return this.#dialAddress(port);
    }
  }

  close(): void {
    this.#closed = true;
    this.#leave();
  }

  #leave(): void {
    void this.#dialer?.child.then(
      (child) => child.kill(),
      () => undefined,
    );
    this.#dialer = undefined;
  }

  #dialerIn(containerId: string): Promise<ChildProcess> {
    if (this.#dialer?.containerId === containerId) return this.#dialer.child;
    this.#leave();
    const child = this.#enter(containerId);
    this.#dialer = { child, containerId };
    child.catch(() => this.#forget(containerId));
    return child;
  }

  #forget(containerId: string): void {
    if (this.#dialer?.containerId === containerId) this.#dialer = undefined;
  }

  async #enter(containerId: string): Promise<ChildProcess> {
    // Asked afresh: the number of a process that has ended may be another's by now, and so its network.
    const holder = await this.#context.runtime.inspectContainer(containerId);
    if (holder?.state !== 'running') throw new DialError('the container has ended');
    const child = spawn('nsenter', [`--net=${networkOf(holder)}`, process.execPath, DIALER], {
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      // Nothing of the agent's own secrets.
      env: { PATH: process.env['PATH'] },
    });
    child.on('message', (answer: DialAnswer, handle) => {
      const waiting = this.#waiting.get(answer.id);
      if (answer.error !== undefined) waiting?.reject(new DialError(answer.error));
      else if (!(handle instanceof Socket)) waiting?.reject(new DialError('the connection was closed at once'));
      else if (waiting) waiting.resolve(handle);
      else handle.destroy();
    });
    const fail = (why: Error): void => {
      this.#forget(containerId);
      for (const waiting of this.#waiting.values()) if (waiting.child === child) waiting.reject(why);
    };
    child.on('error', fail);
    child.on('exit', (code, signal) => fail(new Error(`the process that dials ended (${signal ?? code})`)));
    return child;
  }

  #dialAddress(port: number): Promise<Socket> {
    const address = addressOf(this.#context, this.#place);
    return new Promise((resolve, reject) => {
      if (address === undefined) return reject(new DialError(`pod ${this.#place.pod} has no address`));
      const socket = connect({ host: address, port, allowHalfOpen: true, timeout: DIAL_TIMEOUT_MS });
      socket.once('error', (error) => reject(new DialError(error.message, { cause: error })));
      socket.once('timeout', () => socket.destroy(new Error(`no answer within ${DIAL_TIMEOUT_MS} ms`)));
      socket.once('connect', () => resolve(socket.setTimeout(0)));
    });
  }
}

const networkOf = ({ processId }: Container): string => `/proc/${processId}/ns/net`;

/** As the agent itself has given it out; what a status says anybody may have written who may write it. */
export function addressOf({ addresses, hostAddresses, world }: AgentContext, place: PodPlace): string | undefined {
  const pod = world.get({ group: '', resource: 'pods' }, place.namespace, place.pod);
  if (pod?.metadata.uid !== place.uid) return undefined;
  const { hostNetwork } = (pod['spec'] ?? {}) as { hostNetwork?: boolean };
  return hostNetwork === true ? hostAddresses[0] : addresses.of(place.uid);
}
