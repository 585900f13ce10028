/**
 * One attempt to connect to NATS. The client library may leave a socket behind when a server accepts and says nothing, so each server is first asked, by a socket of our own, whether it greets;
 * and what connects is used once: `connection.ts` makes another when it is lost, so that nothing of the old one can reach into the new.
 */
import net from 'node:net';
import { connect, type NatsConnection } from 'nats';
import { natsOptions, serverAddresses, type ConnectionSettings, type ServerAddress } from './connection-settings.ts';

const GREETING_TIMEOUT_MS = 3_000;

/** Rejects with why the last server that was asked could not be used. `known`: servers of the same cluster that others have told of, as `host:port`. */
export async function dial(settings: ConnectionSettings, known: Iterable<string> = []): Promise<NatsConnection> {
  const addresses = new Map(serverAddresses(settings, known).map((address) => [address.host, address]));
  const asked = await Promise.allSettled([...addresses.values()].map(greeted));
  const servers = asked.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  if (servers.length > 0) return connect({ ...natsOptions(settings), servers, reconnect: false });
  throw asked.find((outcome) => outcome.status === 'rejected')?.reason;
}

/** Resolves to the address once the server there has said anything: a NATS server speaks first. */
function greeted({ host, hostname, port }: ServerAddress): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ host: hostname, port });
    const timer = setTimeout(() => end(new Error(`${host} says nothing`)), GREETING_TIMEOUT_MS);
    const end = (error?: Error): void => {
      clearTimeout(timer);
      socket.destroy();
      if (error) reject(error);
      else resolve(host);
    };
    socket.once('data', () => end());
    socket.once('close', () => end(new Error(`${host} hangs up`)));
    socket.once('error', end);
  });
}
