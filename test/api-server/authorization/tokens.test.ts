/** Tokens of service accounts: issued, believed, and no longer believed once what they name is gone. */
import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import t from 'tap';
import { ServiceAccountTokens } from '../../../api-server/authentication/service-account-tokens.ts';
import { newTokenKey } from '../../../api-server/authentication/token-keys.ts';
import { tokenSecrets } from '../../../controllers/serviceaccounts/token-secrets.ts';
import { until } from '../../harness/until.ts';
import { authorityCertificate, pod, startApi, type Answer, type Json } from '../api.ts';
import { startControllers } from '../controllers.ts';

const firstKey = newTokenKey();
const api = await startApi(t, { tokenKeys: firstKey });
const IN_DEFAULT = '/api/v1/namespaces/default';
const ACCOUNTS = `${IN_DEFAULT}/serviceaccounts`;
const SELF = '/apis/authentication.k8s.io/v1/selfsubjectreviews';
const ISSUER = 'https://kubernetes.default.svc.cluster.local';

const account = (name: string): Json => ({ apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name } });
const ask = (name: string, spec: object = {}, options: object = {}): Promise<Answer> =>
  api.post(`${ACCOUNTS}/${name}/token`, { spec }, options);
const bearing = (token: string) => ({ user: null, headers: { authorization: `Bearer ${token}` } });
const whoIs = (token: string) => api.post(SELF, {}, bearing(token));
const claimsOf = (token: string): Json => JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString());

async function tokenOf(name: string, spec: object = {}): Promise<string> {
  const { status, text, body } = await ask(name, spec);
  if (status !== 201) throw new Error(text);
  return body.status.token;
}

await api.post(ACCOUNTS, account('robot'));

t.test('kubectl create token, and what its bearer is', async (t) => {
  const token = (await api.kubectl('create token robot --duration=20m')).trim();
  const claims = claimsOf(token);
  t.match(claims, {
    iss: ISSUER,
    sub: 'system:serviceaccount:default:robot',
    aud: [ISSUER],
    'kubernetes.io': { namespace: 'default', serviceaccount: { name: 'robot', uid: /.+/ } },
  });
  t.equal(claims.exp - claims.iat, 1200);
  const who = await whoIs(token);
  t.equal(who.status, 201);
  t.match(who.body.status.userInfo, {
    username: 'system:serviceaccount:default:robot',
    uid: claims['kubernetes.io'].serviceaccount.uid,
    groups: ['system:serviceaccounts', 'system:serviceaccounts:default', 'system:authenticated'],
    extra: { 'authentication.kubernetes.io/credential-id': [`JTI=${claims.jti}`] },
  });
  t.equal((await api.get(`${IN_DEFAULT}/pods`, bearing(token))).status, 403);
  await api.post('/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings', {
    metadata: { name: 'robot' },
    roleRef: { kind: 'ClusterRole', name: 'view' },
    subjects: [{ kind: 'ServiceAccount', name: 'robot', namespace: 'default' }],
  });
  t.equal((await api.get(`${IN_DEFAULT}/pods`, bearing(token))).status, 200);
  t.match(
    await api.kubectl([
      '--kubeconfig',
      '/dev/null',
      '--server',
      `https://127.0.0.1:${api.port}`,
      '--insecure-skip-tls-verify',
      '--token',
      token,
      'auth',
      'whoami',
    ]),
    /system:serviceaccount:default:robot/,
  );
});

t.test('what is asked for is bounded', async (t) => {
  t.match((await ask('robot', { expirationSeconds: 60 })).body, {
    code: 422,
    message: /spec\.expirationSeconds.*10 minutes/,
  });
  t.equal((await ask('nobody')).status, 404);
  t.equal((await api.get(`${ACCOUNTS}/robot/token`)).status, 405);
  t.match((await ask('robot', { boundObjectRef: { kind: 'ConfigMap', apiVersion: 'v1', name: 'x' } })).body, {
    code: 400,
  });
  t.equal((await ask('robot', {}, { user: 'jane|' })).status, 403);
  const { body } = await ask('robot');
  t.match(body, {
    kind: 'TokenRequest',
    metadata: { name: 'robot', namespace: 'default' },
    spec: { expirationSeconds: 3600 },
  });
  t.ok(Math.abs(Date.parse(body.status.expirationTimestamp) - Date.now() - 3_600_000) < 30_000);
});

t.test('what is not one of ours is not believed', async (t) => {
  const token = await tokenOf('robot');
  const [head = '', , signature = ''] = token.split('.');
  const grown = Buffer.from(
    JSON.stringify({ ...claimsOf(token), sub: 'system:serviceaccount:default:other' }),
  ).toString('base64url');
  t.equal((await whoIs(`${head}.${grown}.${signature}`)).status, 401, 'changed');
  const none = Buffer.from(JSON.stringify({ alg: 'none' })).toString('base64url');
  t.equal((await whoIs(`${none}.${token.split('.')[1]}.`)).status, 401, 'unsigned');
  for (const junk of ['a', 'a.b.c', '..', 'é', 'x'.repeat(40_000)])
    t.equal((await whoIs(encodeURIComponent(junk))).status, 401);
  const basic = { user: null, headers: { authorization: 'Basic YTpi' } };
  t.equal((await api.post(SELF, {}, basic)).status, 401);
  // Another key says the same: not ours.
  const registry = { byResource: () => undefined } as never;
  const stranger = new ServiceAccountTokens({ keys: newTokenKey(), registry, store: {} as never });
  const uid = claimsOf(token)['kubernetes.io'].serviceaccount.uid;
  const { token: forged } = stranger.issue({
    namespace: 'default',
    account: { name: 'robot', uid },
    audiences: [],
    lifetimeSeconds: 3600,
  });
  t.equal((await whoIs(forged)).status, 401, 'signed by another');
  const late = stranger.issue({
    namespace: 'default',
    account: { name: 'robot', uid },
    audiences: [],
    lifetimeSeconds: -1,
  });
  t.match(stranger.verify(late.token), { fault: /has expired/ });
});

t.test('a token speaks to those it names', async (t) => {
  const token = await tokenOf('robot', { audiences: ['vault'] });
  t.equal((await whoIs(token)).status, 401, 'the API server is not meant');
  const review = async (spec: object) =>
    (await api.post('/apis/authentication.k8s.io/v1/tokenreviews', { spec })).body.status;
  t.match(await review({ token, audiences: ['vault', 'other'] }), {
    authenticated: true,
    audiences: ['vault'],
    user: { username: 'system:serviceaccount:default:robot' },
  });
  t.match(await review({ token }), { authenticated: false, error: /audiences/ });
  t.match(await review({ token: 'nonsense' }), { authenticated: false });
});

t.test('a token ends with its account, and with its pod', async (t) => {
  await api.post(ACCOUNTS, account('brief'));
  await api.post(`${IN_DEFAULT}/pods`, pod('p', { serviceAccountName: 'brief', nodeName: 'n1' }));
  const boundObjectRef = { kind: 'Pod', apiVersion: 'v1', name: 'p' };
  t.equal((await ask('robot', { boundObjectRef })).status, 400, "another account's pod");
  t.equal((await ask('brief', { boundObjectRef: { ...boundObjectRef, uid: 'other' } })).status, 409);
  t.equal((await ask('brief', { boundObjectRef: { ...boundObjectRef, name: 'none' } })).status, 404);
  const withPod = await tokenOf('brief', { boundObjectRef });
  const alone = await tokenOf('brief');
  t.match((await whoIs(withPod)).body.status.userInfo.extra, {
    'authentication.kubernetes.io/pod-name': ['p'],
    'authentication.kubernetes.io/node-name': ['n1'],
  });

  // The agent of the pod's node may have one for that pod, and no other.
  const agent = { user: 'system:node:n1|system:nodes' };
  t.equal((await ask('brief', { boundObjectRef }, agent)).status, 201);
  t.equal((await ask('brief', {}, agent)).status, 403);
  t.equal((await ask('robot', {}, agent)).status, 403);
  t.equal((await ask('brief', { boundObjectRef }, { user: 'system:node:n2|system:nodes' })).status, 403);

  await api.delete(`${IN_DEFAULT}/pods/p?gracePeriodSeconds=0`);
  t.equal((await whoIs(withPod)).status, 401);
  t.equal((await whoIs(alone)).status, 201);
  await api.delete(`${ACCOUNTS}/brief`);
  t.equal((await whoIs(alone)).status, 401);
  await api.post(ACCOUNTS, account('brief'));
  t.equal((await whoIs(alone)).status, 401, 'a namesake is another');
});

t.test('a token may end with a node', async (t) => {
  const { body: node } = await api.post('/api/v1/nodes', { metadata: { name: 'n3' } });
  const boundObjectRef = { kind: 'Node', apiVersion: 'v1', name: 'n3', uid: node.metadata.uid };
  const token = await tokenOf('robot', { boundObjectRef });
  t.match(claimsOf(token)['kubernetes.io'].node, { name: 'n3', uid: node.metadata.uid });
  t.match((await whoIs(token)).body.status.userInfo.extra, {
    'authentication.kubernetes.io/node-name': ['n3'],
    'authentication.kubernetes.io/node-uid': [node.metadata.uid],
  });
  const byKubectl = (await api.kubectl('create token robot --bound-object-kind Node --bound-object-name n3')).trim();
  t.equal((await whoIs(byKubectl)).status, 201);
  t.equal((await ask('robot', { boundObjectRef: { ...boundObjectRef, apiVersion: 'v2' } })).status, 400);
  await api.post(`${IN_DEFAULT}/pods`, pod('on-n3', { serviceAccountName: 'robot', nodeName: 'n3' }));
  const ofPod = await tokenOf('robot', { boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: 'on-n3' } });
  t.match(claimsOf(ofPod)['kubernetes.io'].node, { name: 'n3', uid: node.metadata.uid });
  await api.delete('/api/v1/nodes/n3');
  t.equal((await whoIs(token)).status, 401);
  t.equal((await whoIs(ofPod)).status, 201, "a pod's token ends with the pod");
  await api.post('/api/v1/nodes', { metadata: { name: 'n3' } });
  t.equal((await whoIs(token)).status, 401, 'a namesake is another');
});

t.test('a Secret that holds a token of an account', async (t) => {
  const running = await startControllers(t, api, [tokenSecrets(authorityCertificate)], () => 'serviceaccounts');
  const SECRETS = `${IN_DEFAULT}/secrets`;
  const type = 'kubernetes.io/service-account-token';
  const secretFor = (name: string, annotations: object = { 'kubernetes.io/service-account.name': 'lasting' }) =>
    api.post(SECRETS, { metadata: { name, annotations }, type });
  const read = async (name: string): Promise<Json> => (await api.get(`${SECRETS}/${name}`)).body;
  const open = (value: string): string => Buffer.from(value, 'base64').toString();
  t.match((await secretFor('nameless', {})).body, { code: 422, message: /service-account\.name.*Required/ });
  await api.post(ACCOUNTS, account('lasting'));
  await secretFor('one');
  await secretFor('two');
  const filled = await until<Json>('the Secret to be filled in', async () => {
    const secret = await read('one');
    return secret.data?.token ? secret : undefined;
  });
  const uid = (await api.get(`${ACCOUNTS}/lasting`)).body.metadata.uid;
  t.match(filled.metadata.annotations, { 'kubernetes.io/service-account.uid': uid });
  t.strictSame([open(filled.data['ca.crt']), open(filled.data.namespace)], [authorityCertificate, 'default']);
  const token = open(filled.data.token);
  t.match((await whoIs(token)).body.status.userInfo, { username: 'system:serviceaccount:default:lasting' });
  t.ok(claimsOf(token).exp - Date.now() / 1000 > 100 * 365 * 86_400, 'it does not end by itself');
  t.match(await api.kubectl('describe secret one'), new RegExp(`token: +${token}`));

  await api.patch(`${SECRETS}/one`, 'merge', { data: { token: null, 'ca.crt': null } });
  const again = await until<Json>('what was taken to be back', async () => {
    const secret = await read('one');
    return secret.data?.token && secret.data['ca.crt'] ? secret : undefined;
  });
  t.equal(open(again.data['ca.crt']), authorityCertificate);
  const position = await api.lastSequence();
  await until('the controller to have seen it', () => running.world.position >= position);
  t.equal((await read('one')).metadata.resourceVersion, again.metadata.resourceVersion, 'and then it rests');

  await api.delete(`${SECRETS}/one`);
  t.equal((await whoIs(token)).status, 401, 'it ends with its Secret');
  const other = await until('the other token', async () => (await read('two')).data?.token as string | undefined);
  t.equal((await whoIs(open(other))).status, 201);
  await api.delete(`${ACCOUNTS}/lasting`);
  t.equal((await whoIs(open(other))).status, 401, 'and with its account');
  await until('the Secret to be gone', async () => (await read('two')).code === 404);
  await secretFor('three');
  await until('one for nobody to be gone', async () => (await read('three')).code === 404);
});

t.test('keys follow each other: the newest signs, all are believed, until they are taken away', async (t) => {
  const keyOf = (token: string): string =>
    JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()).kid;
  const published = async (): Promise<string[]> =>
    (await api.get('/openid/v1/jwks')).body.keys.map(({ kid }: { kid: string }) => kid);
  const old = await tokenOf('robot');
  const secondKey = newTokenKey();
  api.useTokenKeys(secondKey + firstKey);
  const fresh = await tokenOf('robot');
  t.not(keyOf(fresh), keyOf(old));
  t.strictSame(await published(), [keyOf(fresh), keyOf(old)], 'the newest first');
  for (const token of [old, fresh]) t.equal((await whoIs(token)).status, 201);

  const publicKey = createPublicKey(firstKey).export({ type: 'spki', format: 'pem' }).toString();
  api.useTokenKeys(`${secondKey}\n# the first one, for those who still bear its tokens\n${publicKey}`);
  t.equal((await whoIs(old)).status, 201, 'a public key is enough to believe');
  for (const wrong of [
    '',
    publicKey,
    firstKey.slice(0, 90),
    generateKeyPairSync('ec', { namedCurve: 'P-384' }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  ])
    t.throws(() => api.useTokenKeys(wrong), /tokens of service accounts/);
  t.equal((await whoIs(old)).status, 201, 'what cannot be read changes nothing');

  api.useTokenKeys(secondKey);
  t.equal((await whoIs(old)).status, 401);
  t.equal((await whoIs(fresh)).status, 201);
  t.strictSame(await published(), [keyOf(fresh)]);
});

t.test('others can check the tokens by the published key', async (t) => {
  const token = await tokenOf('robot');
  const read = async (path: string) => (await api.get(path, bearing(token))).body;
  const { issuer, jwks_uri: uri } = await read('/.well-known/openid-configuration');
  t.equal(issuer, ISSUER);
  const { keys } = await read(new URL(uri).pathname);
  const [head, payload, signature = ''] = token.split('.');
  const key = { key: createPublicKey({ key: keys[0], format: 'jwk' }), dsaEncoding: 'ieee-p1363' as const };
  t.ok(verify('sha256', Buffer.from(`${head}.${payload}`), key, Buffer.from(signature, 'base64url')));
});
