/**
 * How set-up does what only root may: as root, or by `sudo -n`, or else not at all, and then it says the one command to run. Called by `set-up.ts` and `docker-engine.ts`.
 */
import { findProgram, runCommand } from './command.ts';
import { SetUpError } from './requirement.ts';

export const isRoot = process.getuid?.() === 0;

let sudoWorks: Promise<boolean> | undefined;

/** Words to put before a command so that it runs as root, or undefined where that cannot be. */
export async function asRoot(): Promise<readonly string[] | undefined> {
  if (isRoot) return [];
  sudoWorks ??= runCommand('sudo', ['-n', 'true']).then((result) => result.code === 0);
  return (await sudoWorks) ? ['sudo', '-n', '--preserve-env=DEBIAN_FRONTEND'] : undefined;
}

export async function requireRoot(command: string): Promise<readonly string[]> {
  const prefix = await asRoot();
  if (prefix === undefined) {
    throw new SetUpError(
      `Root is needed once, and neither am I root nor does \`sudo -n\` work. Run this, then start again:\n\n    ${command}\n`,
    );
  }
  return prefix;
}

/** Installs Debian packages from the machine's own sources. */
export async function installPackages(packages: readonly string[], say: (line: string) => void): Promise<void> {
  const words = packages.join(' ');
  if ((await findProgram('apt-get')) === undefined) {
    throw new SetUpError(
      `This machine lacks ${words} and has no apt-get to bring them: install them by its own means, then start again.`,
    );
  }
  const prefix = await requireRoot(`sudo sh -c 'apt-get update && apt-get install -y ${words}'`);
  const options = {
    environment: { DEBIAN_FRONTEND: 'noninteractive' },
    onTick: (seconds: number): void => say(`  … still at it after ${seconds} s`),
  };
  const [update = '', ...updateArgs] = [...prefix, 'apt-get', 'update', '-qq'];
  const [install = '', ...installArgs] = [
    ...prefix,
    'apt-get',
    'install',
    '-y',
    '-qq',
    '--no-install-recommends',
    ...packages,
  ];
  say(`${words}: installing from this machine's own Debian sources …`);
  let result = await runCommand(install, installArgs, options);
  if (result.code !== 0) {
    // The lists are missing or too old for the mirror: fetch them, then once more.
    await runCommand(update, updateArgs, options);
    result = await runCommand(install, installArgs, options);
  }
  if (result.code !== 0)
    throw new SetUpError(
      `\`apt-get install ${words}\` failed: ${`${result.stderr}${result.stdout}`.trim().slice(-1500)}`,
    );
}
