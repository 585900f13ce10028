/**
 * Completion in the real bash, zsh and fish: lines are typed at their prompts, the key is pressed, and what then stands there is read. zsh's own pseudo-terminals hold bash and zsh; fish tells what it would offer. Against one API
 * server, and through the `reckon` that a user has on the PATH.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { runCommand } from '../../cli/set-up/command.ts';
import { bring, cacheFolder } from '../../cli/set-up/set-up.ts';
import { fish, zsh, type Shell } from '../../cli/set-up/shells.ts';
import { writePrograms } from '../../cli/start/terminal-programs.ts';
import { candidates } from '../../cli/verbs/complete.ts';
import { completionScript } from '../../cli/verbs/completion.ts';
import { get } from '../../cli/verbs/get.ts';
import { configMap, startApi, type Api } from '../api-server/api.ts';

t.setTimeout(600_000);

/** What is typed, and what the key makes of it, in each shell alike. */
const LINES: readonly (readonly [typed: string, completed: string])[] = [
  ['reckon hi', 'reckon history'],
  ['reckon completion f', 'reckon completion fish'],
  ['reckon why --namesp', 'reckon why --namespace'],
  ['reckon get configm', 'reckon get configmaps'],
  ['reckon get -n shop cm/set', 'reckon get -n shop cm/settings'],
  ['reckon get -n shop cm siz', 'reckon get -n shop cm sizes.v1'],
  ['reckon get --namespace=shop cm siz', 'reckon get --namespace=shop cm sizes.v1'],
  ['reckon get pods -n sh', 'reckon get pods -n shop'],
  ['reckon get pods --namespace=sh', 'reckon get pods --namespace=shop'],
  ['reckon get --context re', 'reckon get --context reckon'],
  ['reckon get clusterrole system:controller:deploy', 'reckon get clusterrole system:controller:deployments'],
  ['reckon apply --atomic -f some-f', 'reckon apply --atomic -f some-file.yaml'],
  ['reckon get nonsense/x', 'reckon get nonsense/x'],
];

interface Terminal {
  readonly api: Api;
  readonly environment: Readonly<Record<string, string>>;
}

async function startTerminal(t: Test): Promise<Terminal> {
  const api = await startApi(t);
  await api.post('/api/v1/namespaces', { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } });
  for (const name of ['settings', 'sizes.v1']) await api.post('/api/v1/namespaces/shop/configmaps', configMap(name));
  await writeFile(path.join(api.folder, 'some-file.yaml'), '');
  const PATH = `${await writePrograms(api.folder)}:${process.env['PATH']}`;
  return { api, environment: { KUBECONFIG: api.kubeconfig, HOME: api.folder, PATH, TERM: 'dumb', HISTFILE: '' } };
}

/** Types the lines into a shell that reads `settings` first, and has ^X write down what stands at its prompt. */
async function typed(terminal: Terminal, holder: Shell, shell: { start: string; name: string }): Promise<string[]> {
  const folder = path.join(terminal.api.folder, shell.name);
  await mkdir(folder, { recursive: true });
  const driver = `${holder.begin}
    zmodload zsh/zpty zsh/zselect
    drain() { local said; zselect -t 2; zpty -rt shell said }
    zpty shell ${JSON.stringify(shell.start)}
    until [[ -e $OUT/ready ]]; do drain; done
    for line; do
      rm -f $OUT/written
      zpty -wn shell "$line"$'\\t\\x18'
      until [[ -s $OUT/written ]]; do drain; done
      print -r -- "$(<$OUT/written)"
      zpty -wn shell $'\\x15'
    done
    zpty -d shell`;
  const { stdout, stderr } = await runCommand(
    holder.path,
    ['-f', '-c', driver, 'driver', ...LINES.map(([line]) => line)],
    {
      timeoutMs: 180_000,
      cwd: terminal.api.folder,
      environment: { ...terminal.environment, ...holder.environment, OUT: folder },
    },
  );
  if (stderr !== '') t.comment(stderr);
  return stdout.trimEnd().split('\n');
}

async function inBash(terminal: Terminal, holder: Shell): Promise<string[]> {
  const settings = path.join(terminal.api.folder, 'bashrc');
  await writeFile(
    settings,
    `PS1=; source <(reckon completion bash)
     report() { printf '%s\\n' "$READLINE_LINE" > $OUT/new; mv $OUT/new $OUT/written; }
     bind -x '"\\C-x": report'; bind '"\\t": complete'; touch $OUT/ready\n`,
  );
  return typed(terminal, holder, { name: 'bash', start: `bash --noprofile --rcfile ${settings} -i` });
}

async function inZsh(terminal: Terminal, holder: Shell): Promise<string[]> {
  await writeFile(
    path.join(terminal.api.folder, '.zshrc'),
    `PROMPT=; ${holder.begin}
     autoload -Uz compinit; compinit -u -D; source <(reckon completion zsh)
     report() { print -r -- "$BUFFER" > $OUT/new; mv $OUT/new $OUT/written }
     zle -N report; bindkey '^X' report; bindkey '^U' kill-whole-line; touch $OUT/ready\n`,
  );
  return typed(terminal, holder, { name: 'zsh', start: `ZDOTDIR=${terminal.api.folder} ${holder.path} -d -i` });
}

/** What it offers takes the place of the last word; the rest of the line stands. */
async function inFish({ api, environment }: Terminal, shell: Shell): Promise<string[]> {
  const script = `${shell.begin}
    reckon completion fish | source
    for line in $argv
      set -l offered (complete -C $line)
      test (count $offered) -gt 0; or set offered (string split -r -m1 ' ' -- $line)[2]
      echo (string split -r -m1 ' ' -- $line)[1] (string split \\t -- $offered[1])[1]
    end`;
  const { stdout, stderr } = await runCommand(shell.path, ['-N', '-c', script, ...LINES.map(([line]) => line)], {
    timeoutMs: 180_000,
    cwd: api.folder,
    environment: { ...environment, ...shell.environment },
  });
  if (stderr !== '') t.comment(stderr);
  return stdout.trimEnd().split('\n');
}

t.test('words are completed alike in bash, zsh and fish', async (t) => {
  const context = { cacheFolder: cacheFolder(), say: (line: string) => t.comment(line) };
  const shells = { zsh: await bring(zsh, context), fish: await bring(fish, context) };
  const terminal = await startTerminal(t);
  const [bash, zshs, fishs] = await Promise.all([
    inBash(terminal, shells.zsh),
    inZsh(terminal, shells.zsh),
    inFish(terminal, shells.fish),
  ]);
  const right = LINES.map(([, completed]) => completed);
  const plain = (lines: readonly string[]): string[] => lines.map((line) => line.trimEnd());
  t.strictSame(plain(bash), right, 'bash');
  t.strictSame(plain(zshs), right, 'zsh');
  t.strictSame(plain(fishs), right, 'fish');
});

t.test('what there is to choose from', async (t) => {
  const offline = (...words: string[]) => candidates({ verbs: { get }, commands: [], words });
  t.ok((await offline('why', '--')).includes('--namespace'));
  t.strictSame(await offline('get', 'pods', '-o', ''), ['json', 'name', 'wide', 'yaml']);
  t.strictSame(await offline('sql', '-o', ''), ['csv', 'json', 'table']);
  t.strictSame(await offline('get', 'pods', '--output=j'), ['--output=json']);
  t.strictSame(await offline('get', 'pods', '--output', '=', 'j'), ['json'], 'bash hands over the sign by itself');
  t.strictSame(await offline('get', 'pods', '--output', '='), ['json', 'name', 'wide', 'yaml']);
  t.strictSame(await offline('consumer', 'r'), ['rotate']);
  t.equal(completionScript('tcsh'), undefined);
});
