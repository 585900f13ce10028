/** The agent's server: logs and commands of real containers, and who is let in. */
import https from 'node:https';
import t from 'tap';
import { WebSocket } from 'ws';
import { createAuthority, issueCertificate, type KeyAndCertificate } from '../../../cli/instance/certificates.ts';
import { AgentServer } from '../../../controllers/pods/server/server.ts';
import { DockerRuntime } from '../../../runtime/docker/docker-runtime.ts';
import { createLogger } from '../../../sdk/logger.ts';
import { serverAddresses } from '../../harness/servers.ts';
import { BUSYBOX_IMAGE, ensureBusyboxImage } from '../../runtime/busybox-image.ts';
import { OneNode } from './one-node.ts';

t.setTimeout(600_000);
const { dockerHost, busybox } = await serverAddresses();
const docker = new DockerRuntime({ socketPath: new URL(dockerHost).pathname });
await ensureBusyboxImage(docker, busybox);

const authority = createAuthority('test', Date.now());
const issue = (commonName: string, hosts: string[] = []): KeyAndCertificate =>
  issueCertificate(authority, { commonName, organizations: [], hosts }, Date.now());
const apiServer = issue('system:apiserver');

const node = new OneNode(docker);
await node.start();
const server = new AgentServer({
  agent: node.agent.context,
  tls: { ca: authority.cert, ...issue('system:node:node-a', ['localhost', '127.0.0.1']) },
  port: 0,
  logger: createLogger({ name: 'test', level: 'fatal' }),
});
await server.listen();
t.teardown(async () => {
  await server.close();
  await node.close();
});

const script =
  'echo attempt $(cat /s/n 2>/dev/null | wc -l); echo x >> /s/n; seq 1 5; trap "exit 3" TERM; while true; do sleep 0.1; done';
const pod = node.run('talks', {
  containers: [
    {
      name: 'main',
      image: BUSYBOX_IMAGE,
      command: ['/bin/sh', '-c', script],
      volumeMounts: [{ name: 's', mountPath: '/s' }],
    },
  ],
  volumes: [{ name: 's', emptyDir: {} }],
});
node.run('waits', { containers: [{ name: 'main', image: 'registry.invalid/x:1' }] });
await node.ready('talks');

interface Answer {
  readonly code: number;
  readonly text: string;
}

function get(path: string, as: KeyAndCertificate = apiServer): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = https.get(
      { host: '127.0.0.1', port: server.port, path, ca: authority.cert, ...as, agent: false },
      (response) => {
        let text = '';
        response.on('data', (chunk: Buffer) => (text += chunk.toString()));
        response.on('end', () => resolve({ code: response.statusCode ?? 0, text }));
      },
    );
    request.on('error', reject);
  });
}

interface Remote {
  readonly out: string;
  readonly error: string;
  readonly status: { status: string; reason?: string; details?: { causes: { reason: string; message: string }[] } };
}

/** Runs a command; `speak` is called once the connection stands. */
function exec(query: string, protocol: string, speak: (socket: WebSocket) => void = () => undefined): Promise<Remote> {
  return new Promise((resolve, reject) => {
    const url = `wss://127.0.0.1:${server.port}/exec/default/talks/${pod.metadata.uid ?? ''}/main?${query}`;
    const socket = new WebSocket(url, [protocol], { ca: authority.cert, ...apiServer });
    const channels: Record<number, Buffer[]> = {};
    let first = true;
    socket.on('message', (data: Buffer) => {
      (channels[data[0] ?? 0] ??= []).push(data.subarray(1));
      if (first) speak(socket);
      first = false;
    });
    socket.on('error', reject);
    socket.on('close', () => {
      const text = (channel: number): string => Buffer.concat(channels[channel] ?? []).toString();
      resolve({ out: text(1), error: text(2), status: JSON.parse(text(3) || '{}') as Remote['status'] });
    });
  });
}

const command = (...words: string[]): string => words.map((word) => `command=${encodeURIComponent(word)}`).join('&');

t.test('who is let in', async (t) => {
  await t.rejects(get('/healthz', { cert: '', key: '' }), 'nobody without a certificate');
  t.match(await get('/healthz', issue('admin')), { code: 403 }, 'not even an admin: only the API server');
  t.match(await get('/healthz'), { code: 200, text: 'ok' });
  t.match(await get('/run/anything'), { code: 404 });
});

t.test('logs', async (t) => {
  const log = '/containerLogs/default/talks/main';
  await node.until('the log is written', async () => (await get(log)).text.includes('5\n'));
  t.equal((await get(log)).text, 'attempt 0\n1\n2\n3\n4\n5\n');
  t.equal((await get(`${log}?tailLines=2`)).text, '4\n5\n');
  t.equal((await get(`${log}?limitBytes=12`)).text, 'attempt 0\n1\n');
  t.match((await get(`${log}?timestamps=true&tailLines=1`)).text, /^\d{4}-\d\d-\d\dT\S+Z 5\n$/);
  t.equal((await get(`${log}?sinceSeconds=0`)).text, '');
  t.match(await get(`${log}?tailLines=many`), { code: 400 });
  t.match(await get('/containerLogs/default/nobody/main'), { code: 404 });
  t.match(JSON.parse((await get('/containerLogs/default/waits/main')).text), {
    kind: 'Status',
    code: 400,
    message: /is waiting to start/,
  });
  t.match(await get(`${log}?previous=true`), { code: 400, text: /previous terminated container/ });
  const following = get(`${log}?follow=true&tailLines=1`);
  const [container] = await node.containersOf('talks');
  await docker.signalContainer(container?.id ?? '', 'TERM');
  t.equal((await following).text, '5\n', 'a followed log ends with its container');
  await node.until('it runs again', () => node.pod('talks')?.status?.containerStatuses?.[0]?.restartCount === 1);
  await node.until('and writes', async () => (await get(log)).text.startsWith('attempt 1\n'));
  t.match((await get(`${log}?previous=true`)).text, /^attempt 0\n/, 'the log of the container before it');
});

t.test('commands', async (t) => {
  await node.ready('talks');
  const shell = (text: string): string => command('/bin/sh', '-c', text);
  const v5 = 'v5.channel.k8s.io';
  t.match(await exec(`${shell('echo out; echo err >&2')}&stdout=true&stderr=true`, v5), {
    out: 'out\n',
    error: 'err\n',
    status: { status: 'Success' },
  });
  t.match(await exec(`${shell('exit 42')}&stdout=true`, 'v4.channel.k8s.io'), {
    status: {
      status: 'Failure',
      reason: 'NonZeroExitCode',
      details: { causes: [{ reason: 'ExitCode', message: '42' }] },
    },
  });
  const big = 'x'.repeat(300_000);
  const counted = await exec(`${command('wc', '-c')}&stdin=true&stdout=true`, v5, (socket) => {
    socket.send(Buffer.concat([Buffer.from([0]), Buffer.from(big)]));
    socket.send(Buffer.from([255, 0]));
  });
  t.equal(counted.out.trim(), '300000', 'all of stdin comes, and its end');
  const much = await exec(`${shell('dd if=/dev/zero bs=1024 count=3000 2>/dev/null')}&stdout=true`, v5);
  t.equal(much.out.length, 3000 * 1024, 'and all of stdout');
  const terminal = await exec(`${shell('sleep 0.5; stty size')}&stdin=true&stdout=true&tty=true`, v5, (socket) => {
    socket.send(Buffer.concat([Buffer.from([4]), Buffer.from('{"Width":101,"Height":37}')]));
  });
  t.match(terminal.out, /37 101/);
  t.match(await exec(`${command('/no/such')}&stdout=true&stderr=true`, v5), { status: { status: 'Failure' } });
  await t.rejects(
    new Promise((_, reject) => {
      const url = `wss://127.0.0.1:${server.port}/exec/default/talks/another-uid/main?command=true`;
      new WebSocket(url, [v5], { ca: authority.cert, ...apiServer }).on('error', reject);
    }),
    { message: /404/ },
    'a namesake of the pod is not meant',
  );
});

t.test('ports', async (t) => {
  const listens = 'httpd -p 127.0.0.1:7000; trap "exit 0" TERM; while true; do sleep 0.1; done';
  const listening = node.run('listens', {
    containers: [{ name: 'main', image: BUSYBOX_IMAGE, command: ['/bin/sh', '-c', listens] }],
  });
  await node.ready('listens');
  const forward = (query: string) => {
    const url = `wss://127.0.0.1:${server.port}/portForward/default/listens/${listening.metadata.uid ?? ''}?${query}`;
    const socket = new WebSocket(url, ['v4.channel.k8s.io'], { ca: authority.cert, ...apiServer });
    const channels: Buffer[][] = [[], [], [], []];
    socket.on('message', (data: Buffer) => channels[data[0] ?? 0]?.push(data.subarray(1)));
    return new Promise<Buffer[]>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('open', () => socket.send(Buffer.from('\0GET /no/page HTTP/1.0\r\n\r\n')));
      socket.on('close', () => resolve(channels.map((chunks) => Buffer.concat(chunks))));
    });
  };
  const through = await node.until('it listens', async () => {
    const heard = await forward('ports=7000&ports=7001');
    return heard[0]?.includes('HTTP/1') ? heard : false;
  });
  t.equal(through[0]?.readUInt16LE(), 7000, 'each channel begins with its port');
  t.match(String(through[0]?.subarray(2)), /404 Not Found/, 'what listens on loopback alone is reached');
  t.equal(through[1]?.length, 2);
  t.match(String(through[3]?.subarray(2)), /^error forwarding port 7001 to pod .*connect: connection refused/);
  await t.rejects(forward(''), { message: /400/ });
  await t.rejects(forward('ports=80,x'), { message: /400/ });
});
