/** `nft`, by which Services get their addresses in the kernel, and `ip`, which looks at the node's links. */
import { findProgram, runCommand } from './command.ts';
import type { Program } from './nats-server.ts';
import type { Requirement } from './requirement.ts';

export const nftables: Requirement<Program> = {
  name: 'nftables',
  async find() {
    const program = await findProgram('nft');
    if (program === undefined) return undefined;
    const { stdout } = await runCommand(program, ['--version']);
    return { path: program, version: /v(\S+)/.exec(stdout)?.[1] ?? 'of unknown version' };
  },
  describe: (found) => `${found.version} (${found.path})`,
  packages: ['nftables'],
  otherwise:
    'nft is missing, by which Services get their addresses: install the package nftables, or start with --runtime simulated.',
};

export const iproute: Requirement<string> = {
  name: 'iproute2',
  find: () => findProgram('ip'),
  describe: (found) => found,
  packages: ['iproute2'],
  otherwise: 'ip is missing: install the package iproute2, or start with --runtime simulated.',
};
