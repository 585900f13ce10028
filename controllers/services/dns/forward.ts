/**
 * Questions that are not the cluster's, put to the node's own resolvers: one after the other, each for a while, over the transport that the client uses. For `server.ts`.
 */
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';

export type Transport = 'udp' | 'tcp';

const FORWARD_TIMEOUT_MS = 2_000;
const DNS_PORT = 53;

/** The node's resolvers, read afresh since they change; never ourselves. */
export function nodeResolvers(own: string): string[] {
  try {
    const lines = readFileSync('/etc/resolv.conf', 'utf8').split('\n');
    return lines
      .flatMap((line) => /^\s*nameserver\s+(\d+\.\d+\.\d+\.\d+)/.exec(line)?.[1] ?? [])
      .filter((address) => address !== own);
  } catch {
    return [];
  }
}

/** `address` or `address:port`. Undefined where none of them answers. */
export async function askUpstreams(
  upstreams: readonly string[],
  message: Buffer,
  transport: Transport,
): Promise<Buffer | undefined> {
  for (const upstream of upstreams) {
    const [address = '', port = DNS_PORT] = upstream.split(':');
    const reply = await (transport === 'udp' ? askDatagram : askStream)(address, Number(port), message);
    if (reply) return reply;
  }
  return undefined;
}

const answers = (reply: Buffer, message: Buffer): boolean =>
  reply.length >= 12 && reply.readUInt16BE(0) === message.readUInt16BE(0);

function askDatagram(address: string, port: number, message: Buffer): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    let isOver = false;
    const done = (reply?: Buffer) => {
      if (isOver) return;
      isOver = true;
      clearTimeout(timer);
      socket.close();
      resolve(reply);
    };
    const timer = setTimeout(done, FORWARD_TIMEOUT_MS);
    socket.on('error', () => done());
    socket.on('message', (reply) => {
      if (answers(reply, message)) done(reply);
    });
    // Connected, so that only the one asked can answer.
    socket.connect(port, address, () => {
      if (!isOver) socket.send(message);
    });
  });
}

function askStream(address: string, port: number, message: Buffer): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const socket = connect(port, address);
    let received = Buffer.alloc(0);
    const done = (reply?: Buffer) => {
      clearTimeout(timer);
      socket.destroy();
      resolve(reply);
    };
    const timer = setTimeout(done, FORWARD_TIMEOUT_MS);
    socket.on('error', () => done());
    socket.on('close', () => done());
    socket.on('connect', () => socket.write(framed(message)));
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
      const reply = received.subarray(2, 2 + received.readUInt16BE(0));
      done(answers(reply, message) ? reply : undefined);
    });
  });
}

/** A message as it goes over TCP, its length before it. */
export function framed(message: Buffer): Buffer {
  const prefix = Buffer.alloc(2);
  prefix.writeUInt16BE(message.length);
  return Buffer.concat([prefix, message]);
}
