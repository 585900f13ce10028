/** The certificates that we write are what OpenSSL (by Node's TLS) and X.509 readers take them for. */
import { once } from 'node:events';
import { X509Certificate } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import tls, { type TLSSocket } from 'node:tls';
import t from 'tap';
import { createAuthority, isCurrent, issueCertificate, type Identity } from '../../cli/instance/certificates.ts';

const nowMs = Date.now();
const day = 24 * 3600 * 1000;
const authority = createAuthority('reckon test', nowMs);
const server: Identity = {
  commonName: 'system:apiserver',
  organizations: ['system:masters'],
  hosts: ['localhost', 'kubernetes.default.svc', '127.0.0.1', '::1', 'fd00::1:2'],
};
const client: Identity = {
  commonName: 'system:controller:deployments',
  organizations: ['system:controllers', 'second'],
  hosts: [],
};

t.test('a server and a client know each other by them', async (t) => {
  const serverPair = issueCertificate(authority, server, nowMs);
  const clientPair = issueCertificate(authority, client, nowMs);
  const listener = tls.createServer({ ...serverPair, ca: authority.cert, requestCert: true, rejectUnauthorized: true });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  t.teardown(() => void listener.close());
  const { port } = listener.address() as AddressInfo;
  const accepted = once(listener, 'secureConnection') as Promise<[TLSSocket]>;
  const socket = tls.connect({ port, host: '127.0.0.1', ca: authority.cert, ...clientPair, servername: 'localhost' });
  await once(socket, 'secureConnect');
  const [peer] = await accepted;
  t.ok(socket.authorized && peer.authorized);
  const { subject } = peer.getPeerCertificate();
  t.equal(subject.CN, client.commonName);
  t.strictSame(subject.O, client.organizations, 'each group is an organization of its own');
  socket.destroy();
  peer.destroy();

  const stranger = issueCertificate(createAuthority('another', nowMs), client, nowMs);
  const refused = tls.connect({ port, host: '127.0.0.1', ca: authority.cert, ...stranger, servername: 'localhost' });
  const outcome = await Promise.race([
    once(refused, 'error').then(() => 'refused'),
    once(refused, 'data').then(() => 'served'),
    once(refused, 'close').then(() => 'refused'),
  ]);
  t.equal(outcome, 'refused', 'whom another authority signed is not let in');
});

t.test('what they say', async (t) => {
  const { cert } = issueCertificate(authority, server, nowMs);
  const parsed = new X509Certificate(cert);
  for (const name of ['localhost', 'kubernetes.default.svc']) t.ok(parsed.checkHost(name), name);
  for (const address of ['127.0.0.1', '::1', 'fd00::1:2']) t.ok(parsed.checkIP(address), address);
  t.notOk(parsed.checkIP('127.0.0.2'));
  t.notOk(parsed.ca);
  t.ok(new X509Certificate(authority.cert).ca);
  t.ok(parsed.checkIssued(new X509Certificate(authority.cert)));
  const serials = new Set(
    Array.from({ length: 20 }, () => new X509Certificate(issueCertificate(authority, client, nowMs).cert).serialNumber),
  );
  t.equal(serials.size, 20, 'no two have the same number');
});

t.test('when a new one is due', async (t) => {
  const pair = issueCertificate(authority, server, nowMs);
  t.ok(isCurrent(pair, authority, server, nowMs));
  t.notOk(isCurrent(pair, authority, server, nowMs + 300 * day), 'it runs out soon');
  t.notOk(isCurrent(pair, createAuthority('another', nowMs), server, nowMs), 'the authority is another');
  t.notOk(
    isCurrent(pair, authority, { ...server, hosts: [...server.hosts, '10.1.2.3'] }, nowMs),
    'the machine has another address',
  );
});
