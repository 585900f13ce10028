/**
 * A TCP proxy that cuts connections after a request has gone through and before its answer comes back, so that a client cannot know what became of its write. For lost-answers.test.ts.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';

export interface CuttingProxy {
  readonly port: number;
  /** The share of answers that are lost, from 0 to 1. */
  lossRate: number;
  readonly cuts: number;
  close(): Promise<void>;
}

/** `random` decides about each chunk of an answer. */
export async function startCuttingProxy(targetPort: number, random: () => number): Promise<CuttingProxy> {
  const sockets = new Set<Socket>();
  let cuts = 0;
  const state = { lossRate: 0 };
  const server = createServer((downstream) => {
    const upstream = connect(targetPort, '127.0.0.1');
    let answered = 0;
    for (const socket of [downstream, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        sockets.delete(socket);
        downstream.destroy();
        upstream.destroy();
      });
    }
    downstream.pipe(upstream);
    upstream.on('data', (chunk: Buffer) => {
      // The first chunks are the TLS handshake.
      if (++answered > 3 && random() < state.lossRate) {
        cuts++;
        downstream.destroy();
        upstream.destroy();
        return;
      }
      downstream.write(chunk);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    get lossRate() {
      return state.lossRate;
    },
    set lossRate(rate: number) {
      state.lossRate = rate;
    },
    get cuts() {
      return cuts;
    },
    async close() {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
