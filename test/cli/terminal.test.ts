/**
 * `reckon` at the terminal: help with an example for each verb, kubectl plugins in a real kubectl, kubeconfigs as kubectl merges them, colour only on a terminal, exit codes. Against one API server.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { runCommand, type CommandResult } from '../../cli/set-up/command.ts';
import { writePrograms } from '../../cli/start/terminal-programs.ts';
import { terminal, whileWaiting } from '../../cli/verbs/terminal.ts';
import { parse, stringify } from 'yaml';
import { configMap, startApi, type Api, type Json } from '../api-server/api.ts';

t.setTimeout(600_000);

const root = process.env['RECKON_ROOT'] ?? process.cwd();

interface Terminal {
  readonly api: Api;
  readonly bin: string;
  /** In a real shell, with `bin/` on the PATH. */
  sh(script: string, environment?: Record<string, string>): Promise<CommandResult>;
}

async function startTerminal(t: Test): Promise<Terminal> {
  const api = await startApi(t);
  const bin = await writePrograms(api.folder);
  const PATH = `${bin}:${path.dirname(api.kubectlProgram)}:${process.env['PATH']}`;
  return {
    api,
    bin,
    sh: (script, environment = {}) =>
      runCommand('bash', ['--norc', '-c', script], {
        timeoutMs: 30_000,
        cwd: api.folder,
        environment: { KUBECONFIG: api.kubeconfig, HOME: api.folder, PATH, ...environment },
      }),
  };
}

t.test('the terminal', async (t) => {
  const { api, sh } = await startTerminal(t);
  for (const name of ['shop', 'bank'])
    await api.post('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  await api.post('/api/v1/namespaces/shop/configmaps', configMap('settings'));
  await api.post('/api/v1/namespaces/shop/configmaps', configMap('sizes'));

  await t.test('help shows every verb, and each verb examples', async (t) => {
    const { stdout } = await sh('reckon help');
    const verbs = [...stdout.matchAll(/^ {2}reckon ([a-z]+) {2,}\S/gm)].map(([, verb]) => verb ?? '');
    for (const verb of ['apply', 'get', 'history', 'diff', 'why', 'restore', 'status', 'wait', 'consumer']) {
      t.ok(verbs.includes(verb), verb);
      t.match(
        stdout.slice(stdout.indexOf('\nExamples')),
        new RegExp(`^  reckon ${verb}\\b`, 'm'),
        `an example of ${verb}`,
      );
    }
    const helps = await Promise.all(['consumer', 'sql'].map((verb) => sh(`reckon ${verb} --help`)));
    for (const { code, stdout: help } of helps) t.match({ code, help }, { code: 0, help: /Examples\n {2}reckon/ });
  });

  await t.test('kubectl finds the plugins, and is disturbed by nothing of ours', async (t) => {
    const listed = await sh('kubectl plugin list');
    for (const name of ['why', 'history', 'restore', 'consumer'])
      t.match(listed.stdout, new RegExp(`/kubectl-${name}$`, 'm'));
    t.notMatch(listed.stderr, /warning/i, 'none stands in the way of a verb of its own');
    t.match(await sh('kubectl why --help'), { code: 0, stdout: /reckon why/ });
    const asked = await sh('kubectl why cm/settings -n shop');
    t.match(asked, { code: 1, stderr: /without a database/ }, 'the words, and the kubeconfig, reach the API server');
    t.match((await sh('kubectl __complete why -n shop cm/se')).stdout, /^cm\/settings$/m, 'its completion too');
    const resources = await sh('kubectl api-resources');
    t.equal(resources.code, 0, resources.stderr);
    t.match(resources.stdout, /^eventconsumers +log\.reckon\.dev\/v1 +true +EventConsumer$/m);
    t.match(await sh('kubectl explain eventconsumers.spec.plane'), { code: 0, stdout: /status alone/ });
    t.equal((await sh('kubectl get --raw /openapi/v3/apis/log.reckon.dev/v1')).code, 0);
  });

  await t.test('kubeconfigs: several merged, contexts, namespaces, tokens in files', async (t) => {
    const config = parse(await readFile(api.kubeconfig, 'utf8')) as Json;
    const folder = path.join(api.folder, 'more');
    await mkdir(folder);
    const [cluster, user] = [config.clusters[0], config.users[0]];
    const write = async (name: string, content: Json): Promise<string> => {
      const file = path.join(folder, name);
      await writeFile(file, stringify({ apiVersion: 'v1', kind: 'Config', ...content }));
      return file;
    };
    await writeFile(path.join(folder, 'ca.pem'), Buffer.from(cluster.cluster['certificate-authority-data'], 'base64'));
    const contexts = await write('contexts', {
      'current-context': 'at-shop',
      contexts: [
        { name: 'at-shop', context: { cluster: 'reckon', user: user.name, namespace: 'shop' } },
        { name: 'at-bank', context: { cluster: 'by-file', user: user.name, namespace: 'bank' } },
      ],
    });
    const clusters = await write('clusters', {
      clusters: [{ name: 'by-file', cluster: { server: cluster.cluster.server, 'certificate-authority': 'ca.pem' } }],
    });
    const KUBECONFIG = [contexts, path.join(folder, 'not-there'), clusters, api.kubeconfig].join(':');
    for (const words of ['get cm -o name', 'get cm -o name --context at-bank -n shop']) {
      const [ours, theirs] = await Promise.all([
        sh(`reckon ${words}`, { KUBECONFIG }),
        sh(`kubectl ${words}`, { KUBECONFIG }),
      ]);
      t.equal(ours.code, theirs.code, words);
      t.strictSame(
        ours.stdout
          .trim()
          .replaceAll('configmaps/', 'configmap/')
          .split('\n')
          .filter((line) => line.startsWith('configmap/')),
        theirs.stdout.trim().split('\n').filter(Boolean),
        `as kubectl: ${words}`,
      );
    }
    t.match(await sh('reckon get cm --context nowhere', { KUBECONFIG }), {
      code: 1,
      stderr: /no 'nowhere' among its contexts/,
    });
    t.match(await sh('reckon get cm', { KUBECONFIG: '/nowhere/at/all' }), { code: 1, stderr: /KUBECONFIG names/ });
  });

  await t.test('kubeconfigs: programs that give credentials, as kubectl runs them', async (t) => {
    const folder = path.join(api.folder, 'programs');
    await mkdir(folder);
    const plugin = [
      '#!/bin/sh',
      'cd "$(dirname "$0")"; echo "$1 $WHO" >> runs; echo "$KUBERNETES_EXEC_INFO" > info; echo "for a person" >&2',
      'cat answer',
    ];
    await writeFile(path.join(folder, 'plugin'), plugin.join('\n'), { mode: 0o755 });
    const { clusters } = parse(await readFile(api.kubeconfig, 'utf8')) as Json;
    const extension = { name: 'client.authentication.k8s.io/exec', extension: { region: 'north' } };
    clusters[0].cluster.extensions = [extension];
    const V1 = 'client.authentication.k8s.io/v1';
    const asked = { command: './plugin', args: ['login'], env: [{ name: 'WHO', value: 'robot' }] };
    const both = async (exec: Json, status: Json) => {
      const config = {
        'current-context': 'x',
        clusters,
        contexts: [{ name: 'x', context: { cluster: clusters[0].name, user: 'x', namespace: 'shop' } }],
        users: [{ name: 'x', user: { exec } }],
      };
      const KUBECONFIG = path.join(folder, 'kubeconfig');
      await writeFile(KUBECONFIG, stringify(config));
      const answer = { kind: 'ExecCredential', apiVersion: exec.apiVersion, status };
      await writeFile(path.join(folder, 'answer'), JSON.stringify(answer));
      const told: Json[] = [];
      for (const program of ['reckon', 'kubectl']) {
        await writeFile(path.join(folder, 'runs'), '');
        t.match(
          await sh(`${program} get cm -o name`, { KUBECONFIG }),
          { code: 0, stdout: /settings/, stderr: /for a person/ },
          program,
        );
        t.equal(await readFile(path.join(folder, 'runs'), 'utf8'), 'login robot\n', 'once for several requests');
        told.push(JSON.parse(await readFile(path.join(folder, 'info'), 'utf8')));
      }
      t.strictSame(told[0], told[1], 'it is told what kubectl tells it');
      return told[0];
    };
    const { cert, key } = api.credentials('admin');
    const credential = { clientCertificateData: cert, clientKeyData: key };
    const exec = { ...asked, apiVersion: V1, interactiveMode: 'Never', provideClusterInfo: true };
    t.match((await both(exec, credential)).spec, { interactive: false, cluster: { config: { region: 'north' } } });
    await both({ ...asked, apiVersion: `${V1}beta1` }, { ...credential, expirationTimestamp: '2999-01-01T00:00:00Z' });
  });

  await t.test('colour on a terminal alone, progress alone there, and exit codes', async (t) => {
    const words = 'reckon get cm -n shop';
    const screen = (isTTY: boolean): { written: string; stream: NodeJS.WriteStream } => {
      const seen = { written: '', stream: undefined as unknown as NodeJS.WriteStream };
      seen.stream = { isTTY, write: (text: string) => ((seen.written += text), true) } as unknown as NodeJS.WriteStream;
      return seen;
    };
    const [tty, file] = [screen(true), screen(false)];
    const noColour = process.env['NO_COLOR'];
    delete process.env['NO_COLOR'];
    t.match(terminal(tty.stream).paint('red', 'x'), /\u001b\[31mx/);
    t.equal(terminal(file.stream).paint('red', 'x'), 'x');
    process.env['NO_COLOR'] = '1';
    t.equal(terminal(tty.stream).paint('red', 'x'), 'x');
    if (noColour === undefined) delete process.env['NO_COLOR'];
    await Promise.all([tty, file].map(({ stream }) => whileWaiting(sleep(1_300), stream)));
    t.match(tty.written, /still waiting/);
    t.equal(file.written, '');
    const cases: [string, number, RegExp][] = [
      [words, 0, /^$/],
      ['reckon get cm nobody -n shop', 1, /NotFound/],
      ['reckon get sandwiches', 2, /no kind of objects called/],
      ['reckon history cm/settings -n shop -o yaml', 2, /-o is json, not 'yaml'/],
      ['reckon nonsense', 2, /no command `nonsense`/],
      ['reckon consumer paint billing', 2, /create, list, get, rotate or delete/],
      ['reckon consumer create billing -n shop', 1, /NATS_CONSUMERS_ACCOUNT/],
      ['reckon sql', 2, /--help/],
    ];
    const outcomes = await Promise.all(cases.map(([command]) => sh(command)));
    for (const [index, [command, code, said]] of cases.entries()) {
      t.equal(outcomes[index]?.code, code, `${command}: ${outcomes[index]?.stderr}`);
      t.match(outcomes[index]?.stderr, said, command);
    }
    const away = parse(await readFile(api.kubeconfig, 'utf8')) as Json;
    away.clusters[0].cluster.server = 'https://127.0.0.1:1';
    const elsewhere = path.join(api.folder, 'away');
    await writeFile(elsewhere, stringify(away));
    t.match(await sh(words, { KUBECONFIG: elsewhere }), { code: 1, stderr: /127\.0\.0\.1:1/ });
  });

  await t.test('the page on the terminal names the codes', async (t) => {
    const page = await readFile(path.join(root, 'docs', 'terminal.md'), 'utf8');
    for (const code of [0, 1, 2]) t.match(page, new RegExp(`\\| \`${code}\` `));
  });
});
