/** The NATS server that holds the event log: 2.15.1 or newer, for atomic batches with guards as the log writes them. */
import { bringDebianPackage, unpackedProgram } from './debian-package.ts';
import { findProgram, isAtLeast, runCommand } from './command.ts';
import type { Requirement, SetUpContext } from './requirement.ts';

export interface Program {
  readonly path: string;
  readonly version: string;
}

const minimumVersion = '2.15.1';

export const natsServer: Requirement<Program> = {
  name: 'nats-server',
  async find(context) {
    for (const candidate of [await findProgram('nats-server'), cached(context)]) {
      const version = candidate === undefined ? undefined : await versionOf(candidate);
      if (candidate === undefined || version === undefined) continue;
      if (isAtLeast(version, minimumVersion)) return { path: candidate, version };
      context.say(
        `nats-server: ${candidate} is ${version}, too old: Reckon needs ${minimumVersion} or newer and keeps one of its own`,
      );
    }
    return undefined;
  },
  describe: (found) => `${found.version} (${found.path})`,
  async install(context) {
    context.say("nats-server: downloading from this machine's Debian mirror, suite forky, signature checked …");
    await bringDebianPackage({ package: 'nats-server', suite: 'forky' }, context);
  },
  otherwise: `nats-server ${minimumVersion} or newer is missing: put one on the PATH (Debian has it in the suite forky; nats.io has it for every system), or set NATS_URL to a JetStream cluster of that version.`,
};

function cached(context: SetUpContext): string {
  return unpackedProgram(context, 'nats-server', 'usr/sbin/nats-server');
}

async function versionOf(program: string): Promise<string | undefined> {
  const result = await runCommand(program, ['--version']);
  return /v(\d+\.\d+\.\d+)/.exec(result.stdout)?.[1];
}
