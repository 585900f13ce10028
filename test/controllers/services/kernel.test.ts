/**
 * The rules in a real kernel: a node, two pods and a neighbour on the wire, each a network namespace of its own, so that nothing of the machine's own network is touched. Needs root, `ip` and
 * `nft`; where these are not to be had, it says so and passes.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import t from 'tap';
import { renderRuleset } from '../../../controllers/services/ruleset.ts';
import type { PortRule } from '../../../controllers/services/service-rules.ts';

const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
const run = (command: string, input = '') => {
  const [file = '', ...args] = command.split(' ');
  const { status, stderr, stdout, error } = spawnSync(file, args, { input, env, encoding: 'utf8', timeout: 15_000 });
  return { ok: status === 0, text: `${stdout ?? ''}${stderr ?? ''}${error?.message ?? ''}`.trim() };
};
const must = (command: string, input = ''): void => {
  const { ok, text } = run(command, input);
  if (!ok) throw new Error(`${command}: ${text}`);
};

const id = `rk${process.pid}`;
const names = { node: `${id}n`, a: `${id}a`, b: `${id}b`, neighbour: `${id}c` };
const inside = (who: keyof typeof names, command: string) => `ip netns exec ${names[who]} ${command}`;
const made =
  process.getuid?.() === 0 && run(`ip netns add ${names.node}`).ok && run(inside('node', 'nft list ruleset')).ok;
const SKIP = made ? false : 'network namespaces or nft are not to be had here';
const servers: ReturnType<typeof spawn>[] = [];

t.teardown(() => {
  for (const server of servers) server.kill('SIGKILL');
  for (const name of Object.values(names)) run(`ip netns del ${name}`);
});

const POD_CIDR = '10.213.0.0/24';
const SERVICE_CIDR = '10.214.0.0/24';
const SERVICE = '10.214.0.1';

/** A cable from the node to somebody: addresses at both ends, a default route there. */
function wire(who: 'a' | 'b' | 'neighbour', address: string, gateway: string): void {
  must(`ip netns add ${names[who]}`);
  must(`ip -n ${names.node} link add name to-${who} type veth peer name eth0 netns ${names[who]}`);
  must(`ip -n ${names.node} link set to-${who} up`);
  must(`ip -n ${names[who]} addr add ${address} dev eth0`);
  must(`ip -n ${names[who]} link set eth0 up`);
  must(`ip -n ${names[who]} link set lo up`);
  must(`ip -n ${names[who]} route add default via ${gateway}`);
}

function buildNetwork(): void {
  must(`ip -n ${names.node} link set lo up`);
  must(`ip -n ${names.node} link add br0 type bridge`);
  must(`ip -n ${names.node} addr add 10.213.0.1/24 dev br0`);
  must(`ip -n ${names.node} link set br0 up`);
  wire('a', '10.213.0.2/24', '10.213.0.1');
  wire('b', '10.213.0.3/24', '10.213.0.1');
  for (const port of ['a', 'b']) {
    must(`ip -n ${names.node} link set to-${port} master br0`);
    must(`ip -n ${names.node} link set to-${port} type bridge_slave hairpin on`);
  }
  wire('neighbour', '192.0.2.2/24', '192.0.2.1');
  must(`ip -n ${names.node} addr add 192.0.2.1/24 dev to-neighbour`);
  // As the data plane does for the real bridge.
  must(inside('node', 'sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.br0.route_localnet=1'));
  run(`ip -n ${names.node} link set br0 type bridge nf_call_iptables 1`);
  must(`ip -n ${names.node} route replace ${SERVICE_CIDR} dev br0`);
}

const SERVER = `
  const [name] = process.argv.slice(1);
  require('node:net').createServer((socket) => socket.on('error', () => 0).end(name + ' ' + socket.remoteAddress)).listen(8080, '0.0.0.0');
  const udp = require('node:dgram').createSocket('udp4');
  udp.on('message', (_, from) => udp.send(name, from.port, from.address)).bind(8080, () => console.log('listening'));
`;
/** Prints what each of some connections says, or the error's code. */
const CLIENT = `
  const [address, port, count] = process.argv.slice(1);
  const net = require('node:net');
  const one = () => new Promise((resolve) => {
    const started = Date.now();
    const socket = net.connect({ host: address, port: Number(port), timeout: 1500 });
    let text = '';
    socket.on('data', (chunk) => (text += chunk));
    socket.on('close', () => resolve(text));
    socket.on('timeout', () => socket.destroy(new Error('timeout')));
    socket.on('error', (error) => (text = (error.code ?? error.message) + ' ' + (Date.now() - started < 1000 ? 'at once' : 'late')));
  });
  (async () => { for (let index = 0; index < Number(count); index++) console.log(await one()); })();
`;
const DATAGRAM = `
  const [address, port] = process.argv.slice(1);
  const socket = require('node:dgram').createSocket('udp4');
  setTimeout(() => process.exit(), 1500).unref();
  socket.on('message', (text) => { console.log(String(text)); socket.close(); });
  socket.send('?', Number(port), address);
`;
async function serve(who: 'a' | 'b'): Promise<void> {
  const server = spawn('ip', ['netns', 'exec', names[who], process.execPath, '-e', SERVER, who], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  servers.push(server);
  await once(server.stdout, 'data');
}
function ask(who: keyof typeof names, address: string, port: number, { count = 1, script = CLIENT } = {}): string[] {
  const args = ['netns', 'exec', names[who], process.execPath, '-e', script, address, String(port), String(count)];
  return spawnSync('ip', args, { env, encoding: 'utf8', timeout: 20_000 }).stdout.trim().split('\n');
}

const rule = (extra: Partial<PortRule> = {}): PortRule => ({
  id: 'web_tcp_80',
  protocol: 'tcp',
  addresses: [SERVICE],
  port: 80,
  nodePort: 30_080,
  targets: ['10.213.0.2', '10.213.0.3'].map((address) => ({ address, port: 8080 })),
  ...extra,
});
const load = (...rules: PortRule[]): void =>
  must(
    inside('node', 'nft -f -'),
    renderRuleset(rules, { table: `reckon-${id}`.replace('-', '_'), podCidr: POD_CIDR, serviceCidr: SERVICE_CIDR }),
  );
const servedBy = (lines: readonly string[]): string[] =>
  [...new Set(lines.map((line) => line.split(' ')[0] ?? ''))].sort();

t.test('in the kernel', { skip: SKIP }, async (t) => {
  buildNetwork();
  await Promise.all([serve('a'), serve('b')]);
  load(rule(), rule({ id: 'web_udp_53', protocol: 'udp', port: 53, nodePort: undefined }));

  await t.test('both pods answer at the Service’s address, for whoever asks', async (t) => {
    t.strictSame(servedBy(ask('node', SERVICE, 80, { count: 24 })), ['a', 'b'], 'the node');
    t.strictSame(servedBy(ask('a', SERVICE, 80, { count: 24 })), ['a', 'b'], 'a pod, which reaches itself as well');
    t.ok(ask('b', SERVICE, 80, { count: 12 }).includes('a 10.213.0.3'), 'one pod sees the other’s own address');
    t.match(ask('node', SERVICE, 53, { script: DATAGRAM })[0], /^[ab]$/, 'UDP');
  });

  await t.test('the node port', async (t) => {
    t.strictSame(servedBy(ask('neighbour', '192.0.2.1', 30_080, { count: 24 })), ['a', 'b'], 'from the wire');
    t.strictSame(servedBy(ask('node', '127.0.0.1', 30_080, { count: 24 })), ['a', 'b'], 'from the node’s own loopback');
    t.strictSame(servedBy(ask('a', '10.213.0.1', 30_080, { count: 12 })), ['a', 'b'], 'from a pod');
  });

  await t.test('a Service without anybody behind it refuses at once', async (t) => {
    load(rule({ targets: [] }));
    for (const [who, address, port] of [
      ['node', SERVICE, 80],
      ['a', SERVICE, 80],
      ['neighbour', '192.0.2.1', 30_080],
      ['node', '127.0.0.1', 30_080],
    ] as const)
      t.strictSame(ask(who, address, port), ['ECONNREFUSED at once'], `${who} → ${address}:${port}`);
    load(rule());
    t.match(ask('a', SERVICE, 80)[0], /^[ab] /, 'until somebody is');
    t.strictSame(ask('a', '10.214.0.99', 80), ['ECONNREFUSED at once'], 'an address that no Service has');
  });

  await t.test('a client that is to stick does, whatever is loaded meanwhile', async (t) => {
    load(rule({ sticky: true }));
    const mine = servedBy(ask('neighbour', '192.0.2.1', 30_080, { count: 8 }));
    t.equal(mine.length, 1);
    load(rule({ sticky: true }), rule({ id: 'other', port: 81, nodePort: undefined }));
    t.strictSame(servedBy(ask('neighbour', '192.0.2.1', 30_080, { count: 8 })), mine);
    for (let last = 10; last < 18; last++) must(`ip -n ${names.neighbour} addr add 192.0.2.${last}/24 dev eth0`);
    const all = Array.from({ length: 8 }, (_, index) => {
      const script = CLIENT.replace('timeout: 1500', `timeout: 1500, localAddress: '192.0.2.${index + 10}'`);
      return ask('neighbour', '192.0.2.1', 30_080, { script })[0] ?? '';
    });
    t.strictSame(servedBy(all), ['a', 'b'], 'other clients stick elsewhere');
  });

  await t.test('a connection outlives every reload', async (t) => {
    const script = `
      const socket = require('node:net').connect(80, '${SERVICE}', () => console.log('open'));
      process.stdin.on('data', () => socket.destroy());
      socket.on('close', () => console.log('closed'));
    `;
    must(inside('node', 'nft list ruleset'));
    const keeper = spawn(
      'ip',
      [
        'netns',
        'exec',
        names.node,
        process.execPath,
        '-e',
        `require('node:net').createServer((s) => s.on('data', (d) => s.write(d))).listen(9090, '10.213.0.1', () => console.log('up'))`,
      ],
      { env, stdio: ['ignore', 'pipe', 'ignore'] },
    );
    servers.push(keeper);
    await once(keeper.stdout, 'data');
    load(rule({ targets: [{ address: '10.213.0.1', port: 9090 }] }));
    const client = spawn(
      'ip',
      [
        'netns',
        'exec',
        names.a,
        process.execPath,
        '-e',
        script
          .replace("console.log('open')", "socket.write('ping')")
          .replace(
            "process.stdin.on('data', () => socket.destroy());",
            "socket.on('data', (d) => console.log(String(d))); process.stdin.on('data', (d) => socket.write(d));",
          ),
      ],
      { env, stdio: ['pipe', 'pipe', 'inherit'] },
    );
    servers.push(client);
    t.equal(String((await once(client.stdout, 'data'))[0]).trim(), 'ping');
    for (let times = 0; times < 5; times++) load(rule({ targets: [] }));
    client.stdin.write('pong');
    t.equal(String((await once(client.stdout, 'data'))[0]).trim(), 'pong');
    client.kill('SIGKILL');
  });
});
