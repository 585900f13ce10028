/**
 * The cluster's DNS server on this node: UDP and TCP at the address that pods have as their resolver. Answers for the cluster's zone itself and passes everything else to the node's own
 * resolvers.
 */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import dnsPacket, { type Answer, type Packet } from 'dns-packet';
import type { Logger } from '../../../sdk/index.ts';
import { askUpstreams, framed, nodeResolvers, type Transport } from './forward.ts';
import { answer, CLUSTER_DOMAIN, type ZoneAnswer, type ZoneRecord, type ZoneView } from './zone.ts';

export interface DnsServerOptions {
  /** Where to listen; tried again until the address is there, since the network may not be made yet. */
  readonly address: string;
  readonly port: number;
  readonly view: ZoneView;
  readonly logger: Logger;
  /** Who is asked for all other names. Default the node's own resolvers. */
  readonly upstreams?: () => string[];
}

const LISTEN_AGAIN_MS = 1_000;
const TTL_SECONDS = 5;
const PLAIN_UDP_BYTES = 512;
const MAX_UDP_BYTES = 1_232;
const MAX_TCP_BYTES = 65_535;
/** Queries passed on and not yet answered; more are refused. */
const MAX_FORWARDED = 500;
const MAX_CONNECTIONS = 256;
/** Answers that a client does not fetch. */
const MAX_UNFETCHED_BYTES = 1_048_576;
const TCP_IDLE_MS = 10_000;
/** A name of the cluster that stands for another of its names, and so on. */
const MAX_ALIASES = 8;

const FORMERR = 1;
const SERVFAIL = 2;
const NXDOMAIN = 3;
const NOTIMP = 4;
const REFUSED = 5;
const OPCODE_MASK = 0x7800;

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
      this.#tcp.maxConnections = MAX_CONNECTIONS;
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
            if (reply && !socket.destroyed) socket.write(framed(reply));
            if (socket.writableLength > MAX_UNFETCHED_BYTES) socket.destroy();
          },
          () => socket.destroy(),
        );
      }
    });
  }

  /** Undefined where nothing should be said: to what is not a question. */
  async #answer(message: Buffer, transport: Transport): Promise<Buffer | undefined> {
    // A header, and the flag that says: a question.
    if (message.length < 12 || (message.readUInt8(2) & 0x80) !== 0) return undefined;
    let query: Packet;
    try {
      query = dnsPacket.decode(message);
    } catch {
      return dnsPacket.encode({ type: 'response', id: message.readUInt16BE(0), flags: FORMERR });
    }
    const [question, ...more] = query.questions ?? [];
    if ((message.readUInt16BE(2) & OPCODE_MASK) !== 0) return refusal(query, NOTIMP);
    if (!question || more.length > 0) return refusal(query, FORMERR);
    const own = answer({ name: question.name, type: question.type }, this.#options.view);
    if (!own) return this.#forward(message, query, transport);
    const aliased = await this.#followAlias(own, question.type, transport);
    return encodeReply({ query, own, aliased, transport });
  }

  /** What the name that an alias stands for answers: a resolver in a container does not ask again. */
  async #followAlias(own: ZoneAnswer, type: string, transport: Transport): Promise<Answer[]> {
    const found: Answer[] = [];
    let target = type === 'CNAME' ? undefined : aliasOf(own);
    for (let step = 0; target !== undefined && step < MAX_ALIASES; step++) {
      const next = answer({ name: target, type }, this.#options.view);
      if (!next) return [...found, ...(await this.#askElsewhere(target, type, transport))];
      found.push(...next.records.map(asAnswer));
      target = aliasOf(next);
    }
    return found;
  }

  async #askElsewhere(name: string, type: string, transport: Transport): Promise<Answer[]> {
    const question = {
      type: 'query',
      id: 1,
      flags: dnsPacket.RECURSION_DESIRED,
      questions: [{ name, type }],
    } as Packet;
    const reply = await this.#forward(dnsPacket.encode(question), question, transport);
    return dnsPacket.decode(reply).answers ?? [];
  }

  async #forward(message: Buffer, query: Packet, transport: Transport): Promise<Buffer> {
    if (this.#forwarded >= MAX_FORWARDED) return refusal(query, REFUSED);
    this.#forwarded++;
    try {
      const { address, upstreams = () => nodeResolvers(address) } = this.#options;
      return (await askUpstreams(upstreams(), message, transport)) ?? refusal(query, SERVFAIL);
    } finally {
      this.#forwarded--;
    }
  }
}

const aliasOf = ({ records }: ZoneAnswer): string | undefined => {
  const [first] = records;
  return first?.type === 'CNAME' ? first.data : undefined;
};

function refusal(query: Packet, code: number): Buffer {
  const { id = 0, questions } = query;
  const flags = dnsPacket.RECURSION_AVAILABLE | code;
  return dnsPacket.encode({ type: 'response', id, flags, ...(questions && { questions }) });
}

function encodeReply(parts: {
  query: Packet;
  own: ZoneAnswer;
  aliased: readonly Answer[];
  transport: Transport;
}): Buffer {
  const { query, own, aliased, transport } = parts;
  const [question] = query.questions ?? [];
  const asked = question?.name ?? '';
  // Asked in mixed case, answered in the same: some clients compare.
  const echoed = (record: ZoneRecord): ZoneRecord =>
    record.name === asked.toLowerCase() ? { ...record, name: asked } : record;
  const extended = (query.additionals ?? []).some(({ type }) => type === 'OPT');
  const options = extended ? [extension()] : [];
  const reply: Packet = {
    type: 'response',
    id: query.id ?? 0,
    flags:
      dnsPacket.AUTHORITATIVE_ANSWER |
      dnsPacket.RECURSION_AVAILABLE |
      ((query.flags ?? 0) & dnsPacket.RECURSION_DESIRED) |
      (own.exists ? 0 : NXDOMAIN),
    ...(question && { questions: [question] }),
    answers: [...shuffled(own.records).map(echoed).map(asAnswer), ...aliased],
    additionals: [...own.additionals.map(asAnswer), ...options],
    authorities: own.records.length > 0 ? [] : [startOfAuthority()],
  };
  const limit =
    transport === 'tcp' ? MAX_TCP_BYTES : Math.min(MAX_UDP_BYTES, Math.max(PLAIN_UDP_BYTES, payloadSize(query)));
  const encoded = dnsPacket.encode(reply);
  if (encoded.length <= limit) return encoded;
  // First what nobody asked for is left out, then everything: the client comes again over TCP.
  const bare = dnsPacket.encode({ ...reply, additionals: options });
  if (bare.length <= limit) return bare;
  const flags = (reply.flags ?? 0) | dnsPacket.TRUNCATED_RESPONSE;
  return dnsPacket.encode({ ...reply, flags, answers: [], additionals: options });
}

/** EDNS (RFC 6891): who speaks it is answered in it. */
const extension = (): Answer =>
  ({
    type: 'OPT',
    name: '.',
    udpPayloadSize: MAX_UDP_BYTES,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  }) as unknown as Answer;

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
