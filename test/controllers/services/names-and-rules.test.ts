/** What a Service becomes on a node: rules for the kernel, in the order that they were wanted; names, as a resolver asks for them, and whatever else may come over the wire. */
import { createSocket, type Socket } from 'node:dgram';
import { connect } from 'node:net';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import dnsPacket, { type Packet } from 'dns-packet';
import fc from 'fast-check';
import t from 'tap';
import { Dataplane } from '../../../controllers/services/dataplane.ts';
import { DnsServer } from '../../../controllers/services/dns/server.ts';
import type { ZoneView } from '../../../controllers/services/dns/zone.ts';
import { lotsOf, renderRuleset } from '../../../controllers/services/ruleset.ts';
import {
  type PortRule,
  rulesOf,
  type ServiceObject,
  type SliceObject,
} from '../../../controllers/services/service-rules.ts';
import { createLogger } from '../../../sdk/index.ts';

const logger = createLogger({ name: 'test', level: 'silent' });
const serviceOf = (name: string, spec: object, extra: object = {}) =>
  ({
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace: 'shop', uid: `uid-${name}` },
    spec,
    ...extra,
  }) as unknown as ServiceObject;
const sliceOf = (
  endpoints: readonly object[],
  ports: readonly object[] = [{ name: '', port: 8080, protocol: 'TCP' }],
) =>
  ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 's' },
    addressType: 'IPv4',
    endpoints,
    ports,
  }) as unknown as SliceObject;
const at = (address: string, conditions: object = { ready: true }, extra: object = {}) => ({
  addresses: [address],
  conditions,
  ...extra,
});
const web = { clusterIP: '10.96.0.10', ports: [{ port: 80, protocol: 'TCP', targetPort: 8080 }] };

t.test('rules of a Service', async (t) => {
  const targets = (slices: SliceObject[], spec: object = web) =>
    rulesOf(serviceOf('web', spec), slices).map((rule) =>
      rule.targets.map(({ address, port }) => `${address}:${port}`),
    );
  t.strictSame(targets([sliceOf([at('10.0.0.2'), at('10.0.0.1'), at('10.0.0.3', { ready: false })])]), [
    ['10.0.0.1:8080', '10.0.0.2:8080'],
  ]);
  t.strictSame(
    targets([
      sliceOf([at('10.0.0.1', { ready: false, serving: true, terminating: true }), at('10.0.0.2', { ready: false })]),
    ]),
    [['10.0.0.1:8080']],
    'the last resort: those that end but still serve',
  );
  t.strictSame(targets([]), [[]]);
  for (const spec of [
    { ...web, clusterIP: 'None' },
    { type: 'ExternalName', externalName: 'x.org' },
    { ...web, clusterIP: undefined },
  ])
    t.strictSame(rulesOf(serviceOf('web', spec), []), [], JSON.stringify(spec));
  const named = {
    clusterIP: '10.96.0.10',
    type: 'NodePort',
    externalIPs: ['192.0.2.1'],
    ports: [
      { name: 'http', port: 80, nodePort: 30080 },
      { name: 'dns', port: 53, protocol: 'UDP' },
    ],
  };
  t.match(
    rulesOf(serviceOf('web', named), [sliceOf([at('10.0.0.1')], [{ name: 'http', port: 8080, protocol: 'TCP' }])]),
    [
      { protocol: 'tcp', addresses: ['10.96.0.10', '192.0.2.1'], port: 80, nodePort: 30080, targets: [{ port: 8080 }] },
      { protocol: 'udp', port: 53, targets: [] },
    ],
  );
});

t.test('a table that the kernel takes whole', async (t) => {
  const rule = (id: string, extra: Partial<PortRule> = {}): PortRule => ({
    id,
    protocol: 'tcp',
    addresses: ['192.0.2.1'],
    port: 80,
    nodePort: undefined,
    targets: [{ address: '10.0.0.1', port: 1 }],
    ...extra,
  });
  const text = renderRuleset([rule('b'), rule('a'), rule('c', { port: 81, targets: [] })], {
    table: 't',
    podCidr: '10.0.0.0/20',
    serviceCidr: '10.96.0.0/20',
  });
  t.match(text, '192.0.2.1 . tcp . 80 : goto svc_a');
  t.notMatch(text, 'goto svc_b', 'an address that two Services claim is the first one’s');
  t.match(text, /set unserved {[^}]*192\.0\.2\.1 \. tcp \. 81/);
  t.ok(text.startsWith('add table ip t\ndelete table ip t\n'));
});

t.test('clients that stick', async () => {
  const targets = fc.uniqueArray(fc.record({ address: fc.ipV4(), port: fc.integer({ min: 1, max: 65_535 }) }), {
    minLength: 1,
    maxLength: 8,
    selector: ({ address, port }) => `${address}:${port}`,
  });
  fc.assert(
    fc.property(targets, fc.nat(7), (targets, which) => {
      const before = lotsOf(targets);
      const gone = targets[which % targets.length];
      const after = targets.length > 1 ? lotsOf(targets.filter((target) => target !== gone)) : before;
      for (const [lot, target] of before.entries())
        if (target !== gone && after[lot] !== target) throw new Error('a client moved though its target stands');
      for (const target of targets) {
        const share = before.filter((other) => other === target).length / before.length;
        if (share < 0.3 / targets.length || share > 2.5 / targets.length)
          throw new Error(`a share of ${share} of ${targets.length}`);
      }
    }),
    { numRuns: 100 },
  );
});

t.test('loading: together, one after the other, and mended after a refusal', async (t) => {
  const scripts: string[] = [];
  let running = 0;
  let refuse = false;
  const nft = async (script: string) => {
    t.equal(++running, 1, 'never two at once');
    await sleep(5);
    running--;
    if (refuse && script.includes('svc_bad')) throw new Error('nft refused');
    scripts.push(script);
  };
  const plane = new Dataplane({
    table: 't',
    podCidr: '10.0.0.0/20',
    serviceCidr: '10.96.0.0/20',
    bridge: () => undefined,
    logger,
    nft,
  });
  await plane.start(new Map());
  const rule = (id: string, port: number): PortRule => ({
    id,
    protocol: 'tcp',
    addresses: ['10.96.0.1'],
    port,
    nodePort: undefined,
    targets: [{ address: '10.0.0.1', port: 1 }],
  });
  await Promise.all(
    Array.from({ length: 20 }, (_, index) => plane.install(`s${index}`, [rule(`s${index}`, index + 1)])),
  );
  t.equal(scripts.length, 2, 'twenty Services in one go');
  const early = plane.install('early', [rule('early', 100)]);
  await sleep(17);
  await Promise.all([early, plane.install('late', [rule('late', 101)])]);
  t.match(scripts.at(-1), /goto svc_early[\s\S]*goto svc_late/, 'the last load has everything');
  refuse = true;
  const results = await Promise.allSettled([
    plane.install('bad', [rule('bad', 102)]),
    plane.install('good', [rule('good', 103)]),
  ]);
  t.ok(
    results.every(({ status }) => status === 'rejected'),
    'who waited for a refused load is told',
  );
  t.strictSame(plane.installed('bad'), []);
  t.strictSame(plane.installed('good'), [], 'and will try again');
  await plane.install('good', [rule('good', 103)]);
  t.match(scripts.at(-1), 'svc_good');
  plane.stop();
});

// ---- names

const services = [
  serviceOf('web', { ...web, ports: [{ name: 'http', port: 80 }] }),
  serviceOf('db', { clusterIP: 'None' }),
  serviceOf('away', { type: 'ExternalName', externalName: 'www.example.org' }),
  serviceOf('alias', { type: 'ExternalName', externalName: 'web.shop.svc.cluster.local' }),
  serviceOf('ring', { type: 'ExternalName', externalName: 'ring.shop.svc.cluster.local' }),
  serviceOf('many', { clusterIP: 'None' }),
];
const ports = [{ name: 'sql', port: 5432, protocol: 'TCP' }];
const slices: Record<string, SliceObject[]> = {
  db: [
    sliceOf(
      [at('10.0.0.1', { ready: true }, { hostname: 'db-0' }), at('10.0.0.2'), at('10.0.0.3', { ready: false })],
      ports,
    ),
    sliceOf([at('10.0.0.2')], []),
  ],
  many: [
    sliceOf(
      Array.from({ length: 100 }, (_, index) => at(`10.1.0.${index}`)),
      ports,
    ),
  ],
};
const view: ZoneView = {
  service: (namespace, name) =>
    services.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name),
  slices: (_namespace, name) => slices[name] ?? [],
  hasNamespace: (namespace) => namespace === 'shop',
  serviceAt: (address) => services.find(({ spec }) => spec?.clusterIP === address),
};

/** A resolver of the node's, that answers what it is asked after the time it is told. */
async function upstream(address: string, reply: (query: Packet) => Packet | undefined): Promise<Socket> {
  const socket = createSocket('udp4');
  socket.on('message', (message, from) => {
    const query = dnsPacket.decode(message);
    const answer = reply(query);
    if (answer)
      socket.send(dnsPacket.encode({ ...answer, type: 'response', id: query.id ?? 0 }), from.port, from.address);
  });
  socket.bind(0, address);
  await once(socket, 'listening');
  return socket;
}
const elsewhere = await upstream('127.0.0.1', ({ questions = [] }) => ({
  questions,
  answers: [{ type: 'A', name: questions[0]?.name ?? '', ttl: 60, data: '192.0.2.80' }],
}));
const silent = await upstream('127.0.0.1', () => undefined);
const at127 = (socket: Socket) => `127.0.0.1:${socket.address().port}`;
let upstreams = [at127(elsewhere)];

const PORT = 20_000 + (process.pid % 20_000);
const serverAt = (address: string, itsView = view) => {
  const server = new DnsServer({ address, port: PORT, view: itsView, logger, upstreams: () => upstreams });
  server.start();
  return server;
};
const server = serverAt('127.0.0.53');
t.teardown(() => {
  server.stop();
  elsewhere.close();
  silent.close();
});

async function send(message: Buffer, { address = '127.0.0.53', waitMs = 3_000 } = {}): Promise<Buffer | undefined> {
  const socket = createSocket('udp4');
  try {
    socket.send(message, PORT, address);
    const [reply] = (await Promise.race([once(socket, 'message'), sleep(waitMs, [undefined])])) as [Buffer | undefined];
    return reply;
  } finally {
    socket.close();
  }
}
async function sendStream(...messages: Buffer[]): Promise<Buffer[]> {
  const socket = connect(PORT, '127.0.0.53');
  let received = Buffer.alloc(0);
  const replies: Buffer[] = [];
  for (const message of messages)
    socket.write(Buffer.concat([Buffer.from([message.length >> 8, message.length & 255]), message]));
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    received = Buffer.concat([received, chunk]);
    while (received.length >= 2 && received.length >= 2 + received.readUInt16BE(0)) {
      replies.push(received.subarray(2, 2 + received.readUInt16BE(0)));
      received = received.subarray(2 + received.readUInt16BE(0));
    }
    if (replies.length === messages.length) break;
  }
  socket.destroy();
  return replies;
}
const question = (name: string, type: string, extra: object = {}): Buffer =>
  dnsPacket.encode({
    type: 'query',
    id: 77,
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ name, type }],
    ...extra,
  } as Packet);
const codeOf = (reply: Buffer | undefined) => (reply ? reply.readUInt16BE(2) & 15 : undefined);
const dataOf = ({ answers = [] }: Packet) =>
  answers
    .map((answer) =>
      'data' in answer
        ? answer.type === 'SRV'
          ? `${answer.data.target}:${answer.data.port}`
          : String(answer.data)
        : '',
    )
    .sort();
const svc = (name: string) => `${name}.shop.svc.cluster.local`;

t.test('names', async (t) => {
  await sleep(50);
  const cases: [name: string, type: string, code: number, data: string[]][] = [
    [svc('web'), 'A', 0, ['10.96.0.10']],
    ['WeB.Shop.SVC.Cluster.LOCAL', 'A', 0, ['10.96.0.10']],
    [svc('web'), 'AAAA', 0, []],
    [svc('web'), 'TXT', 0, []],
    [svc('none'), 'A', 3, []],
    ['web.nowhere.svc.cluster.local', 'A', 3, []],
    ['shop.svc.cluster.local', 'A', 0, []],
    ['nowhere.svc.cluster.local', 'A', 3, []],
    [svc('db'), 'A', 0, ['10.0.0.1', '10.0.0.2']],
    [svc('db-0.db'), 'A', 0, ['10.0.0.1']],
    [svc('10-0-0-2.db'), 'A', 0, ['10.0.0.2']],
    [svc('db-9.db'), 'A', 3, []],
    [svc('_sql._tcp.db'), 'SRV', 0, [`${svc('10-0-0-2.db')}:5432`, `${svc('db-0.db')}:5432`]],
    [svc('_http._tcp.web'), 'SRV', 0, [`${svc('web')}:80`]],
    [svc('_http._udp.web'), 'SRV', 3, []],
    ['10-1-2-3.shop.pod.cluster.local', 'A', 0, ['10.1.2.3']],
    ['10.0.96.10.in-addr.arpa', 'PTR', 0, [svc('web')]],
    ['10.0.96.10.in-addr.arpa', 'A', 0, []],
    ['11.0.96.10.in-addr.arpa', 'A', 0, ['192.0.2.80']],
    ['example.org', 'A', 0, ['192.0.2.80']],
    [svc('away'), 'A', 0, ['192.0.2.80', 'www.example.org']],
    [svc('away'), 'CNAME', 0, ['www.example.org']],
    [svc('alias'), 'A', 0, ['10.96.0.10', svc('web')]],
  ];
  for (const [name, type, code, data] of cases) {
    const datagram = await send(question(name, type));
    t.equal(codeOf(datagram), code, `${type} ${name}`);
    const packet = dnsPacket.decode(datagram ?? Buffer.alloc(12));
    t.strictSame(dataOf(packet), data, `${type} ${name}`);
    t.equal(packet.questions?.[0]?.name, name, 'the question comes back as it was asked');
    if (data.length === 0) t.equal(packet.authorities?.[0]?.type, 'SOA', 'for how long the lack of it holds');
    else if (type === 'A' && name.toLowerCase() === svc('web'))
      t.equal(packet.answers?.[0]?.name, name, 'in the case it was asked in');
  }
  t.ok(await send(question(svc('ring'), 'A')), 'a name that stands for itself ends');
});

t.test('long answers, and both transports', async (t) => {
  const short = await send(question(svc('many'), 'A'));
  t.equal((short?.readUInt16BE(2) ?? 0) & 0x200, 0x200, 'cut off, and says so');
  t.ok((short?.length ?? 0) <= 512);
  const edns = { additionals: [{ type: 'OPT', name: '.', udpPayloadSize: 4096, flags: 0, options: [] }] };
  const extended = dnsPacket.decode((await send(question(svc('db'), 'A', edns))) ?? Buffer.alloc(12));
  t.ok(
    extended.additionals?.some(({ type }) => type === 'OPT'),
    'EDNS is answered in EDNS',
  );
  t.notOk(dnsPacket.decode((await send(question(svc('db'), 'A'))) ?? Buffer.alloc(12)).additionals?.length);
  const [whole, next] = await sendStream(question(svc('many'), 'A'), question(svc('web'), 'A'));
  t.equal(dataOf(dnsPacket.decode(whole ?? Buffer.alloc(12))).length, 100);
  t.strictSame(
    dataOf(dnsPacket.decode(next ?? Buffer.alloc(12))),
    ['10.96.0.10'],
    'several questions on one connection',
  );
});

t.test('resolvers that fail', async (t) => {
  upstreams = [at127(silent), at127(elsewhere)];
  const started = performance.now();
  t.equal(
    codeOf(await send(question('example.org', 'A'), { waitMs: 5_000 })),
    0,
    'the second is asked when the first says nothing',
  );
  t.ok(performance.now() - started < 4_000);
  upstreams = [];
  t.equal(codeOf(await send(question('example.org', 'A'))), 2);
  t.equal(codeOf(await send(question(svc('web'), 'A'))), 0, 'the cluster’s own names do not need them');
  upstreams = [at127(elsewhere)];
});

t.test('two instances on one machine', async (t) => {
  const other = serverAt('127.0.0.54', { ...view, service: () => undefined });
  await sleep(50);
  t.equal(codeOf(await send(question(svc('web'), 'A'), { address: '127.0.0.54' })), 3);
  t.equal(codeOf(await send(question(svc('web'), 'A'))), 0);
  other.stop();
});

t.test('whatever comes over the wire, the server says nothing, or an error, and goes on', async (t) => {
  const valid = question(svc('web'), 'A');
  const mutated = fc
    .tuple(fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 4 }), fc.nat(valid.length))
    .map(([changes, length]) => {
      const message = Buffer.from(valid);
      for (const [index, value] of changes) message[index] = value;
      return message.subarray(0, length);
    });
  const hostile = fc.oneof(
    fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes)),
    mutated,
  );
  upstreams = [];
  const socket = createSocket('udp4');
  const replies: Buffer[] = [];
  socket.on('message', (reply) => replies.push(reply));
  const sent = fc.sample(hostile, 1_500);
  for (const [index, message] of sent.entries()) {
    socket.send(message, PORT, '127.0.0.53');
    if (index % 50 === 0) await sleep(2);
  }
  const response = Buffer.from(valid);
  response.writeUInt8(0x80, 2);
  t.equal(await send(response, { waitMs: 100 }), undefined, 'answers are not answered: two servers would never end');
  const update = Buffer.from(valid);
  update.writeUInt8(0x28, 2);
  t.equal(codeOf(await send(update)), 4, 'no other operation than to ask');
  const twice = dnsPacket.encode({
    type: 'query',
    id: 1,
    questions: [
      { name: 'a', type: 'A' },
      { name: 'b', type: 'A' },
    ],
  });
  t.equal(codeOf(await send(twice)), 1);
  const stream = connect(PORT, '127.0.0.53');
  stream.on('error', () => undefined);
  for (const message of sent.slice(0, 200)) stream.write(message);
  await sleep(50);
  stream.destroy();
  t.strictSame(
    dataOf(dnsPacket.decode((await send(valid)) ?? Buffer.alloc(12))),
    ['10.96.0.10'],
    'and the next question is answered',
  );
  t.ok(
    replies.every((reply) => (reply.readUInt8(2) & 0x80) !== 0 && reply.length <= 1_232),
    `${replies.length} replies`,
  );
  socket.close();
  upstreams = [at127(elsewhere)];
});
