/**
 * `bin/` in the instance's home: `reckon`, and kubectl plugins for the verbs that kubectl does not have (`kubectl why pod/web-x`), as small scripts that call this program. Written at every start, since the program may
 * have moved. https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins/
 */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const program = fileURLToPath(new URL('../main.js', import.meta.url));
/** `diff`, `get`, `apply` and `wait` are kubectl's own. */
const PLUGINS = ['why', 'history', 'restore', 'consumer'];

/** Resolves to the folder. */
export async function writePrograms(home: string): Promise<string> {
  const folder = path.join(home, 'bin');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;
  const script = (...words: string[]): string =>
    `#!/bin/sh\n: "\${RECKON_HOME:=${home.replaceAll(/["$`\\]/g, '\\$&')}}"\nexport RECKON_HOME\nexec ${[process.execPath, program, ...words].map(quoted).join(' ')} "$@"\n`;
  const programs: Record<string, string> = { reckon: script() };
  for (const verb of PLUGINS) {
    programs[`kubectl-${verb}`] = script(verb);
    programs[`kubectl_complete-${verb}`] = script('__complete', verb);
  }
  for (const [name, text] of Object.entries(programs)) {
    const file = path.join(folder, name);
    await writeFile(`${file}.new`, text, { mode: 0o755 });
    await rename(`${file}.new`, file);
  }
  return folder;
}
