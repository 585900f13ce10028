/** wrk, the load generator of the benchmarks over TLS: the one on the PATH, else Debian's, with the library it links against beside our other programs. Brought by bench/api alone. */
import path from 'node:path';
import { findProgram, runCommand } from './command.ts';
import { bringDebianPackage, multiarch, unpackedProgram } from './debian-package.ts';
import type { Requirement } from './requirement.ts';

export interface Wrk {
  readonly path: string;
  /** What it needs in its environment. */
  readonly environment: Readonly<Record<string, string>>;
}

const luaPackage = 'libluajit-5.1-2';

export const wrk: Requirement<Wrk> = {
  name: 'wrk',
  async find(context) {
    const library = unpackedProgram(context, luaPackage, `usr/lib/${await multiarch()}`);
    const candidates: readonly Wrk[] = [
      { path: (await findProgram('wrk')) ?? '', environment: {} },
      {
        path: unpackedProgram(context, 'wrk', path.join('usr', 'bin', 'wrk')),
        environment: { LD_LIBRARY_PATH: library },
      },
    ];
    for (const candidate of candidates) {
      if (candidate.path === '') continue;
      const { stdout } = await runCommand(candidate.path, ['--version'], { environment: candidate.environment });
      if (stdout.startsWith('wrk ')) return candidate;
    }
    return undefined;
  },
  describe: ({ path: where }) => where,
  async install(context) {
    context.say("wrk: downloading from this machine's Debian mirror, signature checked …");
    for (const name of ['wrk', luaPackage]) await bringDebianPackage({ package: name, suite: 'own' }, context);
  },
  otherwise: 'wrk is missing: put one on the PATH (Debian: apt-get install wrk).',
};
