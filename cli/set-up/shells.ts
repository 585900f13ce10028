/** zsh and fish, in which the tests try the completion: those on the PATH, else Debian's, unpacked beside our other programs with what they read and link against. Brought by test/cli alone. */
import path from 'node:path';
import { findProgram, runCommand } from './command.ts';
import { bringDebianPackage, multiarch, unpackedProgram } from './debian-package.ts';
import type { Requirement, SetUpContext } from './requirement.ts';

export interface Shell {
  readonly path: string;
  /** What it needs in its environment. */
  readonly environment: Readonly<Record<string, string>>;
  /** The line by which it finds its own functions and modules, before anything else; empty where it does so by itself. */
  readonly begin: string;
}

export const zsh: Requirement<Shell> = {
  name: 'zsh',
  async find(context) {
    const modules = unpackedProgram(context, 'zsh', `usr/lib/${await multiarch()}/zsh`);
    const functions = unpackedProgram(context, 'zsh-common', 'usr/share/zsh/functions');
    const begin = `module_path=(${modules}/*(N)); fpath=(${functions}/**/*(N/))`;
    return firstThatRuns('zsh', { path: unpackedProgram(context, 'zsh', 'bin/zsh'), environment: {}, begin });
  },
  describe: ({ path: where }) => where,
  install: (context) => bringPackages(['zsh-common', 'zsh'], context),
  otherwise: 'zsh is missing: put one on the PATH (Debian: apt-get install zsh).',
};

export const fish: Requirement<Shell> = {
  name: 'fish',
  async find(context) {
    const functions = unpackedProgram(context, 'fish-common', 'usr/share/fish/functions');
    return firstThatRuns('fish', {
      path: unpackedProgram(context, 'fish', 'usr/bin/fish'),
      environment: { LD_LIBRARY_PATH: unpackedProgram(context, PCRE, path.join('usr', 'lib', await multiarch())) },
      begin: `set -p fish_function_path ${functions}`,
    });
  },
  describe: ({ path: where }) => where,
  install: (context) => bringPackages([PCRE, 'fish-common', 'fish'], context),
  otherwise: 'fish is missing: put one on the PATH (Debian: apt-get install fish).',
};

const PCRE = 'libpcre2-32-0';

async function firstThatRuns(name: string, unpacked: Shell): Promise<Shell | undefined> {
  const installed = await findProgram(name);
  if (installed !== undefined) return { path: installed, environment: {}, begin: '' };
  const { code } = await runCommand(unpacked.path, ['--version'], { environment: unpacked.environment });
  return code === 0 ? unpacked : undefined;
}

/** The program itself last: it is what is looked for. */
async function bringPackages(names: readonly string[], context: SetUpContext): Promise<void> {
  context.say(`${names.at(-1)}: downloading from this machine's Debian mirror, signature checked …`);
  for (const name of names) await bringDebianPackage({ package: name, suite: 'own' }, context);
}
