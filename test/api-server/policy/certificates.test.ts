/** Certificates that the cluster gives: asked for, approved or denied, signed, and used. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import path from 'node:path';
import t from 'tap';
import { writeKubeconfig } from '../../../cli/instance/kubeconfig.ts';
import { makeController } from '../../../controllers/certificatesigningrequests/index.ts';
import { reconcile, type Request } from '../../../controllers/certificatesigningrequests/reconcile.ts';
import { until } from '../../harness/until.ts';
import { signingRequest, type RequestOptions } from '../../pki/requests.ts';
import { authority, startApi, type Json } from '../api.ts';
import { startControllers } from '../controllers.ts';

const PATH = '/apis/certificates.k8s.io/v1/certificatesigningrequests';
const CLIENT = 'kubernetes.io/kube-apiserver-client';
const base64 = (text: string): string => Buffer.from(text).toString('base64');

const request = (name: string, asked: RequestOptions | string, spec: object = {}): Json => ({
  apiVersion: 'certificates.k8s.io/v1',
  kind: 'CertificateSigningRequest',
  metadata: { name },
  spec: {
    request: base64(typeof asked === 'string' ? asked : signingRequest(asked).request),
    signerName: CLIENT,
    usages: ['client auth', 'digital signature'],
    ...spec,
  },
});

const conditionOf = (object: Json, type: string): Json =>
  object.status.conditions?.find((condition: Json) => condition.type === type);

t.test('certificates', { timeout: 120_000 }, async (t) => {
  const api = await startApi(t);
  await startControllers(t, api, [makeController({ cert: authority.cert, key: createPrivateKey(authority.key) })]);

  t.test('a developer asks for one, an approver approves, and it works', async (t) => {
    const { request: pem, key } = signingRequest({ commonName: 'jane', organizations: ['developers'] });
    const made = await api.post(PATH, request('jane', pem, { username: 'somebody-else', expirationSeconds: 3600 }), {
      user: 'asker|askers,system:masters',
    });
    t.equal(made.status, 201, made.body.message);
    t.match(made.body.spec, { username: 'asker', groups: ['askers', 'system:masters', 'system:authenticated'] });
    t.match(await api.kubectl('get csr jane'), /jane +\S+ +kubernetes.io\/kube-apiserver-client +asker +60m +Pending/);
    t.match(await api.kubectl('certificate approve jane'), /approved/);
    const signed = await until<Json>('the certificate', async () => {
      const { body } = await api.get(`${PATH}/jane`);
      return body.status.certificate !== undefined && body;
    });
    t.match(conditionOf(signed, 'Approved'), { status: 'True', reason: 'KubectlApprove' });
    const certificate = Buffer.from(signed.status.certificate, 'base64');
    const parsed = new X509Certificate(certificate);
    t.equal(parsed.subject, 'O=developers\nCN=jane');
    const lifetimeMs = Date.parse(parsed.validTo) - Date.parse(parsed.validFrom);
    t.ok(lifetimeMs > 3_600_000 && lifetimeMs < 4_200_000, 'as long as was asked for');
    const kubeconfig = path.join(api.folder, 'jane.kubeconfig');
    await writeKubeconfig(kubeconfig, {
      server: `https://127.0.0.1:${api.port}`,
      ca: authority.cert,
      user: 'jane',
      credentials: { cert: certificate.toString(), key },
    });
    const who = await api.kubectl(['auth', 'whoami', '--kubeconfig', kubeconfig]);
    t.match(who, /Username +jane\s+Groups +\[developers system:authenticated\]/);
    t.match(await api.kubectl('get csr jane'), /Approved,Issued/);
    const undone = { ...signed, status: { ...signed.status, conditions: [] }, metadata: { name: 'jane' } };
    const refused = await api.put(`${PATH}/jane/approval`, undone);
    t.match(
      refused.body.message,
      /status.conditions: Forbidden: updates may not remove a condition of type "Approved"/,
    );
  });

  t.test('only who holds the signer approves', async (t) => {
    await api.post(PATH, request('held', { commonName: 'held' }));
    const role = (name: string, rules: object[]): Json => ({
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRole',
      metadata: { name },
      rules,
    });
    const binding = (name: string, user: string): Json => ({
      apiVersion: 'rbac.authorization.k8s.io/v1',
      kind: 'ClusterRoleBinding',
      metadata: { name: `${name}-${user}` },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: user }],
    });
    const rbac = '/apis/rbac.authorization.k8s.io/v1';
    const update = {
      apiGroups: ['certificates.k8s.io'],
      resources: ['certificatesigningrequests/approval'],
      verbs: ['update'],
    };
    const signers = { apiGroups: ['certificates.k8s.io'], resources: ['signers'], verbs: ['approve'] };
    await api.post(`${rbac}/clusterroles`, role('updater', [update]));
    await api.post(`${rbac}/clusterroles`, role('approver', [{ ...signers, resourceNames: ['kubernetes.io/*'] }]));
    await api.post(`${rbac}/clusterrolebindings`, binding('updater', 'bob'));
    const held = (await api.get(`${PATH}/held`)).body;
    const approved = { ...held, status: { conditions: [{ type: 'Approved', status: 'True', reason: 'Bob' }] } };
    const refused = await api.put(`${PATH}/held/approval`, approved, { user: 'bob|' });
    t.equal(refused.status, 403);
    t.match(
      refused.body.message,
      /user not permitted to approve requests with signerName "kubernetes.io\/kube-apiserver-client"/,
    );
    await api.post(`${rbac}/clusterrolebindings`, binding('approver', 'bob'));
    const sneaky = await api.put(
      `${PATH}/held/approval`,
      { ...approved, status: { ...approved.status, certificate: base64('x') } },
      { user: 'bob|' },
    );
    t.equal(sneaky.status, 422, sneaky.text);
    t.match(sneaky.body.message, /updates may not set certificate content/);
    t.equal((await api.put(`${PATH}/held/approval`, approved, { user: 'bob|' })).status, 200);
    await until('the certificate', async () => (await api.get(`${PATH}/held`)).body.status.certificate !== undefined);
  });

  t.test('what is denied is not signed, and what the signer does not sign fails', async (t) => {
    await api.post(PATH, request('denied', { commonName: 'eve' }));
    t.match(await api.kubectl('certificate deny denied'), /denied/);
    await api.post(PATH, request('server', { commonName: 'eve' }, { usages: ['server auth'] }));
    const node = { commonName: 'system:node:n2', organizations: ['system:nodes'] };
    await api.post(PATH, request('named', { ...node, dnsNames: ['n2'] }, { signerName: `${CLIENT}-kubelet` }));
    const serving = { signerName: 'kubernetes.io/kubelet-serving', usages: ['server auth', 'digital signature'] };
    await api.post(PATH, request('serving', { ...node, dnsNames: ['n2'] }, serving));
    await api.kubectl('certificate approve server named serving');
    for (const [name, why] of [
      ['server', /usages did not match: expected client auth/],
      ['named', /subject alternative names are not allowed, got n2/],
    ] as const) {
      const failed = await until<Json>(`${name} to fail`, async () => {
        const { body } = await api.get(`${PATH}/${name}`);
        return conditionOf(body, 'Failed');
      });
      t.match(failed, { reason: 'SignerValidationFailure', message: why });
    }
    const served = await until<Json>(
      'the serving certificate',
      async () => (await api.get(`${PATH}/serving`)).body.status.certificate,
    );
    t.equal(new X509Certificate(Buffer.from(served, 'base64')).checkHost('n2'), 'n2');
    const { body } = await api.get(`${PATH}/denied`);
    t.ok(conditionOf(body, 'Denied'));
    t.equal(body.status.certificate, undefined);
  });

  t.test('what cannot be signed is refused when it is asked for', async (t) => {
    const refusal = async (object: Json) => {
      const { status, body } = await api.post(PATH, object);
      return `${status} ${body.message}`;
    };
    t.match(
      await refusal(request('x', 'hello')),
      /^422 .*spec.request: Invalid value: "hello": PEM block type must be CERTIFICATE REQUEST/,
    );
    t.match(
      await refusal(request('x', { commonName: 'eve', organizations: ['system:masters'] })),
      /^403 .*use of kubernetes.io\/kube-apiserver-client signer with system:masters group is not allowed/,
    );
    t.match(
      await refusal(request('x', { commonName: 'x' }, { usages: ['flying'] })),
      /spec.usages\[0\]: Unsupported value: "flying"/,
    );
    t.match(
      await refusal(request('x', { commonName: 'x' }, { signerName: 'nobody' })),
      /spec.signerName: .*fully qualified domain/,
    );
    await api.post(PATH, request('fixed', { commonName: 'fixed' }));
    const noted = await api.patch(`${PATH}/fixed/status`, 'merge', {
      metadata: { annotations: { seen: 'yes' }, labels: { a: 'x' } },
      status: { conditions: [{ type: 'Looked', status: 'True', reason: 'At' }] },
    });
    t.match(noted.body, { metadata: { annotations: { seen: 'yes' } }, status: { conditions: [{ type: 'Looked' }] } });
    t.equal(noted.body.metadata.labels, undefined);
    const { body } = await api.patch(`${PATH}/fixed`, 'merge', {
      spec: { expirationSeconds: 700 },
      metadata: { labels: { a: 'b' } },
    });
    t.equal(body.spec.expirationSeconds, undefined, 'what was asked for stays');
    t.equal(body.metadata.labels.a, 'b');
  });
});

t.test('old requests are removed', async (t) => {
  const nowMs = Date.UTC(2030, 0, 2);
  const ago = (hours: number): string => new Date(nowMs - hours * 3_600_000).toISOString();
  const aged = (hours: number, condition?: string, decidedHours = hours): Request =>
    ({
      ...request('old', { commonName: 'old' }),
      metadata: { name: 'old', uid: 'u', creationTimestamp: ago(hours) },
      status: condition && { conditions: [{ type: condition, status: 'True', lastUpdateTime: ago(decidedHours) }] },
    }) as Request;
  const verbs = (one: Request, certificateEndsAtMs?: number): string[] =>
    reconcile(one, { nowMs, now: ago(0), certificateEndsAtMs, canSign: true }).actions.map(({ verb }) => verb);
  t.strictSame(verbs(aged(23)), []);
  t.strictSame(verbs(aged(25)), ['delete']);
  t.strictSame(verbs(aged(30, 'Denied', 0.5)), []);
  t.strictSame(verbs(aged(30, 'Denied', 1.5)), ['delete']);
  t.strictSame(verbs(aged(30, 'Approved', 0.5)), ['sign']);
  t.strictSame(verbs(aged(30, 'Approved', 1.5)), ['delete']);
  t.strictSame(verbs(aged(0.5, 'Approved'), nowMs - 1), ['delete']);
});
