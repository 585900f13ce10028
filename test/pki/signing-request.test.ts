/** Requests for certificates as others make them, and as nobody should. */
import { generateKeyPairSync } from 'node:crypto';
import t from 'tap';
import { readAll, readText } from '../../pki/der.ts';
import { readSigningRequest, SigningRequestError } from '../../pki/signing-request.ts';
import { signingRequest } from './requests.ts';

/** By `openssl req -new -newkey rsa:2048 -subj /O=system:nodes/CN=system:node:n1 -addext subjectAltName=DNS:n1,IP:10.0.0.1,IP:fe80::1`. */
const FROM_OPENSSL = `-----BEGIN CERTIFICATE REQUEST-----
MIICrTCCAZUCAQAwMDEVMBMGA1UECgwMc3lzdGVtOm5vZGVzMRcwFQYDVQQDDA5z
eXN0ZW06bm9kZTpuMTCCASIwDQYJKoZIhvcNAQEBBQADggEPADCCAQoCggEBANpX
dBtUojxYI4iAJOYdLr7v/+unVXvl2R0V+w0MEPI1WL9eF6udG5uYi2fgVrVV2MLt
ZTrKPxCxXQRMid+V24C8mx5l0yShLSzUGpaItJcXhB/qdvdFbOlLyC95qFEXo5Cg
iEthMzxHvshuzXNinJwphxmt5B8E5+4QiAJ/nQGbD0v0vZqv/wSo804JWvQZ1eCF
m2XYpAkXdJwzF5GcNYeYzMF4fP99Rw1cg2pzEu5pJYS0/5m3dnlvEckf2VYAXOIE
kG2fpNyGZ8oPT+JI9tlCndgZy1rpPFy9MgEZaxQvV8GLOtA8lHXMAhb1UspFqIEh
1ZOOKqWCtI4ZqFU4SCMCAwEAAaA4MDYGCSqGSIb3DQEJDjEpMCcwJQYDVR0RBB4w
HIICbjGHBAoAAAGHEP6AAAAAAAAAAAAAAAAAAAEwDQYJKoZIhvcNAQELBQADggEB
ALorjWHmVDpS4PGNJEakIEtK4zzGUS25c3zK7TMVGTCA/yMko5nud9dzYsJGXTPd
KE0z8JRlGQRO0QV/YqFuoQbpA5wZqJLoxh6MZ7SnTZCrrmgmb5KKUt7kLCNx6xfz
WA/7F+MmGctJYuB9PRBwje38ojZiPXDfPbkre5M9eoL9fETnxRSCZHjQ+xkBP4ll
O7+bZsvUcJp73itbXiLPvKcktbTfvY1Ms2bBEDqILqrlEXcQXLH1m/t0acIBdIfn
usjza7K/zegS96svMJ7x7DBHczTrxgXmmRjrs7TZNrmOIDoikVz1ZbXpf/JkQAur
RWJluWpf75vEkSdVBCorfLM=
-----END CERTIFICATE REQUEST-----
`;

const refusal = (pem: string): string => {
  try {
    readSigningRequest(pem);
    return 'none';
  } catch (error) {
    if (error instanceof SigningRequestError) return error.message;
    throw error;
  }
};

t.test('who asks, with which key, for which names', async (t) => {
  const { commonName, organizations, dnsNames, addresses, publicKey } = readSigningRequest(FROM_OPENSSL);
  t.strictSame(
    { commonName, organizations, dnsNames, addresses },
    {
      commonName: 'system:node:n1',
      organizations: ['system:nodes'],
      dnsNames: ['n1'],
      addresses: ['10.0.0.1', 'fe80:0:0:0:0:0:0:1'],
    },
  );
  t.equal(publicKey.asymmetricKeyType, 'rsa');
  const own = readSigningRequest(signingRequest({ commonName: 'jörg', organizations: ['a', 'b'] }).request);
  t.match(own, { commonName: 'jörg', organizations: ['a', 'b'], dnsNames: [] });
});

t.test('requests as tools write them: with words around, in lines of any ending, in old alphabets', async (t) => {
  const { commonName: inWords } = readSigningRequest(
    `Certificate Request:\n    Data:\n        Version: 1 (0x0)\n${FROM_OPENSSL}\n${FROM_OPENSSL}`,
  );
  t.equal(inWords, 'system:node:n1');
  t.equal(readSigningRequest(FROM_OPENSSL.replaceAll('\n', '\r\n')).commonName, 'system:node:n1');
  const [text] = readAll(Buffer.from('1e06004a00fc0061', 'hex'));
  t.equal(text && readText(text), 'Jüa');
  t.match(refusal(`${FROM_OPENSSL.slice(0, 400)}`), /must be CERTIFICATE REQUEST/, 'but whole');
});

t.test('what is not to be believed is refused, whatever it is', async (t) => {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  t.match(refusal(signingRequest({ commonName: 'eve', signedBy: privateKey }).request), /does not belong to its key/);
  t.match(refusal('hello'), /must be CERTIFICATE REQUEST/);
  t.match(refusal(FROM_OPENSSL.replaceAll('CERTIFICATE REQUEST', 'CERTIFICATE')), /must be CERTIFICATE REQUEST/);
  const der = Buffer.from(FROM_OPENSSL.replaceAll(/-----[^-]*-----/g, ''), 'base64');
  const pem = (bytes: Buffer): string =>
    `-----BEGIN CERTIFICATE REQUEST-----\n${bytes.toString('base64')}\n-----END CERTIFICATE REQUEST-----`;
  t.equal(refusal(pem(der)), 'none');
  let believed = 0;
  for (let at = 0; at < der.length; at++) {
    // Every byte, and every length, once.
    const changed = Buffer.from(der);
    changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
    if (refusal(pem(changed)) === 'none') believed++;
    if (refusal(pem(der.subarray(0, at))) === 'none') believed++;
  }
  t.equal(believed, 0, 'not one of them, and none is more than an error');
});
