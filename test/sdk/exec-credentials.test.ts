/** Programs that give credentials: run once for as long as these are good, again when they are not, and every way in which they fail. `test/cli/terminal.test.ts` holds them against kubectl. */
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { stringify } from 'yaml';
import { Transport } from '../../sdk/http-transport.ts';
import { readKubeconfig } from '../../sdk/kubeconfig.ts';

const V1 = 'client.authentication.k8s.io/v1';
const GOOD = 'good';

/** A server that knows one token, and says as whom who asks acts. */
const server = createServer(({ headers }, response) => {
  response.statusCode = headers.authorization === `Bearer ${GOOD}` ? 200 : 401;
  response.end(JSON.stringify({ user: headers['impersonate-user'], groups: headers['impersonate-group'] }));
});
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
t.teardown(() => {
  server.close();
  server.closeAllConnections();
});

/** Prints one answer after the other, and the last of them again and again. */
const PLUGIN = `#!/bin/sh
cd "$(dirname "$0")"
echo run >> runs
answer="answer-$(wc -l < runs | tr -d ' ')"
[ -f "$answer" ] && cp "$answer" newest
cat newest
exit "\${CODE:-0}"
`;

const exec = { apiVersion: V1, command: './plugin', interactiveMode: 'Never', installHint: 'Get it from the shop.' };

interface Given {
  readonly user?: object;
  /** Of the program, one a run. */
  readonly answers?: readonly object[];
}

function setUp(t: Test, { user = { exec }, answers = [{ token: GOOD }] }: Given) {
  const folder = t.testdir({ runs: '', newest: '' });
  writeFileSync(path.join(folder, 'plugin'), PLUGIN, { mode: 0o755 });
  for (const [index, answer] of answers.entries()) {
    const whole = 'kind' in answer ? answer : { kind: 'ExecCredential', apiVersion: V1, status: answer };
    writeFileSync(path.join(folder, `answer-${index + 1}`), JSON.stringify(whole));
  }
  const file = path.join(folder, 'kubeconfig');
  const { port } = server.address() as AddressInfo;
  const config = {
    'current-context': 'x',
    clusters: [{ name: 'x', cluster: { server: `http://127.0.0.1:${port}` } }],
    users: [{ name: 'x', user }],
    contexts: [{ name: 'x', context: { cluster: 'x', user: 'x' } }],
  };
  writeFileSync(file, stringify(config));
  const open = () => new Transport({ access: readKubeconfig(file), userAgent: 'test', interactive: false });
  return { open, runs: () => readFileSync(path.join(folder, 'runs'), 'utf8').split('\n').length - 1 };
}

const asking = { method: 'GET', path: '/x' };

t.test('once for many requests', async (t) => {
  const { open, runs } = setUp(t, { answers: [{ token: GOOD, expirationTimestamp: '2999-01-01T00:00:00Z' }] });
  const transport = open();
  await Promise.all([1, 2, 3].map(() => transport.call(asking)));
  await transport.call(asking);
  t.equal(runs(), 1);
  transport.close();
});

t.test('again where they have expired', async (t) => {
  const { open, runs } = setUp(t, { answers: [{ token: GOOD, expirationTimestamp: '2000-01-01T00:00:00Z' }] });
  const transport = open();
  await transport.call(asking);
  await transport.call(asking);
  t.equal(runs(), 2);
  transport.close();
});

t.test('again where they are refused, though it be a write; but not for ever', async (t) => {
  const stale = setUp(t, { answers: [{ token: 'stale' }, { token: GOOD }] });
  const transport = stale.open();
  t.match(await transport.call({ ...asking, method: 'POST', body: {} }), { code: 200 });
  t.equal(stale.runs(), 2);
  transport.close();
  const hopeless = setUp(t, { answers: [{ token: 'stale' }] });
  const never = hopeless.open();
  await t.rejects(never.call(asking), { code: 401 });
  t.equal(hopeless.runs(), 2);
  never.close();
});

t.test('a token that is written down goes before; and somebody may act as another', async (t) => {
  const { open, runs } = setUp(t, { user: { exec, token: GOOD, as: 'jane', 'as-groups': ['a', 'b'] } });
  const transport = open();
  t.match((await transport.call(asking)).body, { user: 'jane', groups: 'a, b' });
  t.equal(runs(), 0);
  transport.close();
});

t.test('what is wrong is said', async (t) => {
  const failing = { ...exec, env: [{ name: 'CODE', value: '3' }] };
  const faults: [Given, RegExp][] = [
    [{ user: { exec: failing } }, /plugin: it failed with exit code 3/],
    [{ answers: [{}] }, /neither a token nor a certificate/],
    [{ answers: [{ clientCertificateData: 'x' }] }, /without the other/],
    [{ answers: [{ token: GOOD, expirationTimestamp: 'soon' }] }, /no time: soon/],
    [{ answers: [{ kind: 'ExecCredential', apiVersion: `${V1}beta1` }] }, /k8s\.io\/v1, but it printed/],
    [{ answers: [] }, /no JSON/],
    [{ user: { exec: { ...exec, command: 'no-such-program' } } }, /no-such-program not found\s+Get it from the shop/],
    [{ user: { exec: { ...exec, apiVersion: `${V1}alpha1` } } }, /expected client/],
    [{ user: { exec: { ...exec, interactiveMode: undefined } } }, /interactiveMode/],
    [{ user: { exec: { ...exec, interactiveMode: 'Always' } } }, /wants a terminal/],
    [{ user: { exec: 'plugin' } }, /must be an object/],
    [{ user: { 'auth-provider': { name: 'oidc' } } }, /auth-provider/],
  ];
  for (const [given, says] of faults) {
    const call = async () => {
      const transport = setUp(t, given).open();
      await transport.call(asking).finally(() => transport.close());
    };
    await t.rejects(call(), { message: says });
  }
});
