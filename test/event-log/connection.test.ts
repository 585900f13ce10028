/** The connection to NATS through servers that hang: it is lost once, made again once, and nothing of the old one is left that could end the new one. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { LogConnection } from '../../event-log/connection.ts';
import { startNatsChild } from './nats-child.ts';

const authorizationTimeoutSeconds = 1;
const nats = await startNatsChild({
  authorization: { users: [{ user: 'a', password: 'b' }], timeout: authorizationTimeoutSeconds },
});
t.teardown(() => nats.remove());

/** In front of the server, as a machine whose kernel accepts while the server itself is stopped. */
async function startHangingProxy(): Promise<{
  readonly port: number;
  /** Breaks what is connected; who comes now is accepted and hears nothing. */
  hang(): void;
  /** Lets through who comes, and who still waits. */
  wake(): void;
  accepted(): number;
  open(): number;
  close(): void;
}> {
  const sockets = new Set<Socket>();
  let waiting: Socket[] = [];
  let hangs = false;
  let accepted = 0;
  const letThrough = (downstream: Socket): void => {
    const upstream = connect(nats.port, '127.0.0.1');
    upstream.on('error', () => downstream.destroy());
    upstream.on('close', () => downstream.destroy());
    downstream.on('close', () => upstream.destroy());
    downstream.pipe(upstream).pipe(downstream);
  };
  const server = createServer((downstream) => {
    accepted++;
    sockets.add(downstream);
    downstream.on('error', () => undefined);
    downstream.on('close', () => sockets.delete(downstream));
    if (hangs) waiting.push(downstream);
    else letThrough(downstream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    hang() {
      hangs = true;
      for (const socket of sockets) socket.destroy();
    },
    wake() {
      hangs = false;
      for (const socket of waiting) if (!socket.destroyed) letThrough(socket);
      waiting = [];
    },
    accepted: () => accepted,
    open: () => sockets.size,
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

async function untilTrue(holds: () => boolean): Promise<void> {
  for (let waitedMs = 0; !holds() && waitedMs < 30_000; waitedMs += 20) await sleep(20);
}

t.test('a server that hung is connected to once, whatever attempts it slept through', async (t) => {
  const proxy = await startHangingProxy();
  t.teardown(() => proxy.close());
  const connection = await LogConnection.open({ url: `nats://a:b@127.0.0.1:${proxy.port}` });
  t.teardown(() => connection.close());
  const changes: boolean[] = [];
  connection.onChange((connected) => changes.push(connected));
  const before = proxy.accepted();
  proxy.hang();
  const cutOff = connection.request('$JS.API.INFO', '', { timeoutMs: 60_000 });
  await t.rejects(cutOff, 'what is in flight is given up at once, not after its minute');
  await untilTrue(() => proxy.accepted() >= before + 2);
  proxy.wake();
  await untilTrue(() => connection.connected);
  t.match(await connection.api('INFO'), { streams: 0 });
  // An attempt that was left lying would now be taken up by the server, and thrown out for saying nothing.
  await sleep(authorizationTimeoutSeconds * 1_500);
  t.same(changes, [false, true], 'lost once, made again once');
  t.equal(connection.epoch, 1);
  t.equal(proxy.open(), 1, 'and nothing else is open');
});

t.test('a server that comes and goes while it is being connected to', async (t) => {
  const connection = await LogConnection.open({ url: `nats://a:b@127.0.0.1:${nats.port}` });
  t.teardown(() => connection.close());
  for (let round = 0; round < 5; round++) {
    await nats.kill();
    await untilTrue(() => !connection.connected);
    await nats.start();
    // From nowhere to just connected: the kill meets another step of it each time.
    if (round < 4) await sleep(round * 60);
  }
  await untilTrue(() => connection.connected);
  t.match(await connection.api('INFO'), { streams: 0 });
});
