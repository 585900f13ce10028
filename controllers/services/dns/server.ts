/**
 * The cluster's DNS server on this node: UDP and TCP at the address that pods have as their resolver. Answers for the cluster's zone itself and passes everything else to the node's own
 * resolvers.
 */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import dnsPacket, { type Answer, type Packet, type Question } from 'dns-packet';
import type { Logger } from '../../../sdk/index.ts';
import { answer, CLUSTER_DOMAIN, type ZoneAnswer, type ZoneRecord, type ZoneView } from './zone.ts';

export interface DnsServerOptions {
  /** Where to listen; tried again until the address is there, since the network may not be made yet. */
  readonly address: string;
  readonly port: number;
  readonly view: ZoneView;
  readonly logger: Logger;
}

const LISTEN_AGAIN_MS = 1_000;
const FORWARD_TIMEOUT_MS = 2_000;
const TTL_SECONDS = 5;
const PLAIN_UDP_BYTES = 512;
const MAX_UDP_BYTES = 1_232;
/** Queries passed on and not yet answered; more are refused. */
const MAX_FORWARDED = 500;
const TCP_IDLE_MS = 10_000;
/** Aliases of aliases; a circle ends here. */
const MAX_ALIASES = 8;

const NXDOMAIN = 3;
const SERVFAIL = 2;
const FORMERR = 1;
const REFUSED = 5;

export class DnsServer {
  readonly #options: DnsServerOptions;
  #udp: UdpSocket | undefined;
  #tcp: Server | undefined;
  #retry: NodeJS.Timeout | undefined;
  #forwarded = 0;
  #stopped = false;

  constructor(options: DnsServerOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#stopped) return;
    const { address, port, logger } = this.#options;
    const again = (error: NodeJS.ErrnoException) => {
      this.#close();
      if (this.#stopped) return;
      if (error.code !== 'EADDRNOTAVAIL')
        logger.warn({ err: error, address, port }, 'cluster DNS cannot listen; trying again');
      this.#retry = setTimeout(() => this.start(), LISTEN_AGAIN_MS);
    };
    const udp = createSocket('udp4');
    this.#udp = udp;
    udp.on('error', again);
    udp.on('message', (message, from) => void this.#onDatagram(udp, message, from));
    udp.bind({ address, port, exclusive: true }, () => {
      this.#tcp = createServer((socket) => this.#onConnection(socket));
      this.#tcp.on('error', again);
      this.#tcp.listen(port, address, () => logger.info({ address, port }, 'cluster DNS listens'));
    });
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retry);
    this.#close();
  }

  #close(): void {
    this.#udp?.close();
    this.#udp = undefined;
    this.#tcp?.close();
    this.#tcp = undefined;
  }

  async #onDatagram(udp: UdpSocket, message: Buffer, from: RemoteInfo): Promise<void> {
    const reply = await this.#answer(message, 'udp').catch(() => undefined);
    if (reply && udp === this.#udp) udp.send(reply, from.port, from.address, () => undefined);
  }

  #onConnection(socket: Socket): void {
    let received = Buffer.alloc(0);
    socket.setTimeout(TCP_IDLE_MS, () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
        const length = received.readUInt16BE(0);
        const message = received.subarray(2, 2 + length);
        received = received.subarray(2 + length);
        void this.#answer(message, 'tcp').then(
          (reply) => {
            if (!reply) return;
            const prefix = Buffer.alloc(2);
            prefix.writeUInt16BE(reply.length);
            socket.write(Buffer.concat([prefix, reply]));
          },
          () => socket.destroy(),
        );
      }
    });
  }

  /** Undefined where nothing should be said: to what is not a question. */
  async #answer(message: Buffer, transport: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    let query: Packet;
    try {
      query = dnsPacket.decode(message);
    } catch {
      return message.length < 12
        ? undefined
        : dnsPacket.encode({ type: 'response', id: message.readUInt16BE(0), flags: FORMERR });
    }
    const question = query.questions?.[0];
    if (query.type !== 'query' || !question) return undefined;
    const own = answer({ name: question.name, type: question.type }, this.#options.view);
    if (!own) return this.#forward(message, query);
    const behind = await this.#behindAlias(own, question.type);
    const reply: Packet = {
      type: 'response',
      id: query.id ?? 0,
      flags:
        dnsPacket.AUTHORITATIVE_ANSWER |
        dnsPacket.RECURSION_AVAILABLE |
        ((query.flags ?? 0) & dnsPacket.RECURSION_DESIRED) |
        (own.exists ? 0 : NXDOMAIN),
      questions: [question],
      answers: [...shuffled(own.records).map(asAnswer), ...behind],
      additionals: own.additionals.map(asAnswer),
      authorities: own.records.length > 0 ? [] : [startOfAuthority()],
    };
    const encoded = dnsPacket.encode(reply);
    const limit = transport === 'tcp' ? 65_535 : Math.min(MAX_UDP_BYTES, Math.max(PLAIN_UDP_BYTES, payloadSize(query)));
    if (encoded.length <= limit) return encoded;
    const { answers: _, additionals: __, ...truncated } = reply;
    return dnsPacket.encode({ ...truncated, flags: (reply.flags ?? 0) | dnsPacket.TRUNCATED_RESPONSE });
  }

  /** What an alias leads to, in the zone or outside: the resolvers in containers want it in the same answer and do not ask again. */
  async #behindAlias({ records }: ZoneAnswer, type: string): Promise<Answer[]> {
    if (type === 'CNAME' || type === 'ANY') return [];
    const behind: Answer[] = [];
    let target = aliasOf(records);
    for (let step = 0; target !== undefined && step < MAX_ALIASES; step++) {
      const own = answer({ name: target, type }, this.#options.view);
      if (own === undefined) {
        const query: Packet = {
          type: 'query',
          id: Math.floor(Math.random() * 65_536),
          flags: dnsPacket.RECURSION_DESIRED,
          questions: [{ type: type as Question['type'], name: target }],
        };
        const reply = dnsPacket.decode(await this.#forward(dnsPacket.encode(query), query));
        return [...behind, ...(reply.answers ?? [])];
      }
      behind.push(...shuffled(own.records).map(asAnswer));
      target = aliasOf(own.records);
    }
    return behind;
  }

  /** Asks the node's resolvers, one after the other. */
  async #forward(message: Buffer, query: Packet): Promise<Buffer> {
    const refuse = (code: number) =>
      dnsPacket.encode({
        type: 'response',
        id: query.id ?? 0,
        flags: dnsPacket.RECURSION_AVAILABLE | code,
        ...(query.questions && { questions: query.questions }),
      });
    if (this.#forwarded >= MAX_FORWARDED) return refuse(REFUSED);
    this.#forwarded++;
    try {
      for (const upstream of upstreams(this.#options.address)) {
        const reply = await ask(upstream, message);
        if (reply) return reply;
      }
      return refuse(SERVFAIL);
    } finally {
      this.#forwarded--;
    }
  }
}

/** The node's resolvers, read afresh since they change; never ourselves. */
function upstreams(own: string): string[] {
  try {
    const lines = readFileSync('/etc/resolv.conf', 'utf8').split('\n');
    return lines
      .flatMap((line) => /^\s*nameserver\s+(\d+\.\d+\.\d+\.\d+)/.exec(line)?.[1] ?? [])
      .filter((address) => address !== own);
  } catch {
    return [];
  }
}

function ask(address: string, message: Buffer): Promise<Buffer | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const done = (reply?: Buffer) => {
      clearTimeout(timer);
      socket.close();
      resolve(reply);
    };
    const timer = setTimeout(done, FORWARD_TIMEOUT_MS);
    socket.on('error', () => done());
    socket.on('message', (reply) => {
      if (reply.length >= 2 && reply.readUInt16BE(0) === message.readUInt16BE(0)) done(reply);
    });
    // Connected, so that only the one asked can answer.
    socket.connect(53, address, () => socket.send(message));
  });
}

function aliasOf(records: readonly ZoneRecord[]): string | undefined {
  const alias = records.find(({ type }) => type === 'CNAME');
  return alias?.type === 'CNAME' ? alias.data : undefined;
}

const asAnswer = (record: ZoneRecord): Answer => ({ ...record, ttl: TTL_SECONDS }) as Answer;

function shuffled<T>(items: readonly T[]): T[] {
  const copy = [...items];
  for (let index = copy.length - 1; index > 0; index--) {
    const other = Math.floor(Math.random() * (index + 1));
    [copy[index], copy[other]] = [copy[other] as T, copy[index] as T];
  }
  return copy;
}

function payloadSize(query: Packet): number {
  const options = (query.additionals ?? []).find(({ type }) => type === 'OPT') as
    { udpPayloadSize?: number } | undefined;
  return options?.udpPayloadSize ?? PLAIN_UDP_BYTES;
}

function startOfAuthority(): Answer {
  const data = {
    mname: `ns.dns.${CLUSTER_DOMAIN}`,
    rname: `hostmaster.${CLUSTER_DOMAIN}`,
    serial: Math.floor(Date.now() / 1000),
    refresh: 7200,
    retry: 1800,
    expire: 86_400,
    minimum: TTL_SECONDS,
  };
  return { type: 'SOA', name: CLUSTER_DOMAIN, ttl: TTL_SECONDS, data };
}
