/**
 * The process that pod-dialer.ts starts inside a pod's network: connects to the pod's loopback, as asked, and hands each open socket to its parent. Ends with it.
 */
import { connect, type Socket } from 'node:net';

export interface DialRequest {
  readonly id: number;
  readonly port: number;
}

/** With the socket, unless there is an error. */
export interface DialAnswer {
  readonly id: number;
  readonly error?: string;
}

/** Nothing is read from it here: every byte is the parent's. */
function dial(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, allowHalfOpen: true });
    socket.pause();
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      resolve(socket);
    });
  });
}

/** In the words of the container engines that Kubernetes knows. */
const WORDS: Readonly<Record<string, string>> = {
  EADDRNOTAVAIL: 'connect: cannot assign requested address',
  ECONNREFUSED: 'connect: connection refused',
  ENETUNREACH: 'connect: network is unreachable',
};

const refusal = (family: 4 | 6, address: string, error: unknown): string => {
  const { code = '', message } = error as NodeJS.ErrnoException;
  return `dial tcp${family} ${address}: ${WORDS[code] ?? message}`;
};

async function answer({ id, port }: DialRequest): Promise<void> {
  let socket: Socket;
  try {
    socket = await dial('127.0.0.1', port).catch(async (first: unknown) => {
      const fourth = refusal(4, `127.0.0.1:${port}`, first);
      return dial('::1', port).catch((second: unknown) => {
        throw new Error(`IPv4: ${fourth} IPv6 ${refusal(6, `[::1]:${port}`, second)}`);
      });
    });
  } catch (error) {
    process.send?.({ id, error: (error as Error).message } satisfies DialAnswer);
    return;
  }
  socket.on('error', () => socket.destroy());
  process.send?.({ id } satisfies DialAnswer, socket);
}

process.on('message', (request: DialRequest) => void answer(request));
process.on('disconnect', () => process.exit());
