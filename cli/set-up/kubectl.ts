/** kubectl, the newcomer's tool: the one on the PATH if it is 1.32 or newer, else Debian's 1.32 beside our other programs. */
import { bringDebianPackage, unpackedProgram } from './debian-package.ts';
import { findProgram, isAtLeast, runCommand } from './command.ts';
import type { Program } from './nats-server.ts';
import type { Requirement } from './requirement.ts';

const minimumVersion = '1.32';

export const kubectl: Requirement<Program> = {
  name: 'kubectl',
  async find(context) {
    for (const candidate of [await findProgram('kubectl'), unpackedProgram(context, 'kubectl', 'usr/bin/kubectl')]) {
      const version = candidate === undefined ? undefined : await versionOf(candidate);
      if (candidate === undefined || version === undefined) continue;
      if (isAtLeast(version, minimumVersion)) return { path: candidate, version };
      context.say(`kubectl: ${candidate} is ${version}, older than ${minimumVersion}: Reckon keeps one of its own`);
    }
    return undefined;
  },
  describe: (found) => `${found.version} (${found.path})`,
  async install(context) {
    context.say("kubectl: downloading from this machine's Debian mirror, suite trixie, signature checked …");
    await bringDebianPackage({ package: 'kubectl', suite: 'trixie' }, context);
  },
  otherwise: `kubectl ${minimumVersion} or newer is missing: put one on the PATH (Debian 13 has it in the package kubectl).`,
};

async function versionOf(program: string): Promise<string | undefined> {
  const result = await runCommand(program, ['version', '--client', '--output=json']);
  return /"gitVersion":\s*"v(\d+\.\d+(?:\.\d+)?)/.exec(result.stdout)?.[1];
}
