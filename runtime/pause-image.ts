/**
 * The sandbox image: one static program that waits for ever, so that a pod of several containers has a network to share. It is written here as machine code and
 * imported into the engine, so that no registry is asked for it. Called by the node agent when a pod first needs a sandbox.
 */
import { Readable } from 'node:stream';
import tar from 'tar-stream';
import type { ContainerRuntime } from './container-runtime.ts';

export const PAUSE_IMAGE = 'reckon.dev/pause:1';

const LOAD_ADDRESS = 0x400000n;
const HEADER_BYTES = 0x40 + 0x38;

/** `for (;;) pause()` per architecture, as the engine names it: ELF machine number and code. */
const PROGRAMS: Readonly<Record<string, { machine: number; code: readonly number[] }>> = {
  // mov eax, 34 (pause); syscall; jmp back
  x86_64: { machine: 62, code: [0xb8, 0x22, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7] },
  // mov x0..x4, 0; mov x8, 73 (ppoll); svc 0; b back
  aarch64: {
    machine: 183,
    code: [0xd2800000, 0xd2800001, 0xd2800002, 0xd2800003, 0xd2800004, 0xd2800928, 0xd4000001, 0x17fffff9].flatMap(
      (word) => [word & 0xff, (word >>> 8) & 0xff, (word >>> 16) & 0xff, (word >>> 24) & 0xff],
    ),
  },
};

/** A whole static ELF executable. */
export function pauseProgram(architecture: string): Buffer {
  const program = PROGRAMS[architecture === 'amd64' ? 'x86_64' : architecture === 'arm64' ? 'aarch64' : architecture];
  if (program === undefined) throw new Error(`no sandbox program for the architecture ${architecture}`);
  const file = Buffer.alloc(HEADER_BYTES + program.code.length);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1], 0);
  file.writeUInt16LE(2, 16); // executable
  file.writeUInt16LE(program.machine, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(LOAD_ADDRESS + BigInt(HEADER_BYTES), 24); // entry
  file.writeBigUInt64LE(0x40n, 32); // program headers
  file.writeUInt16LE(0x40, 52);
  file.writeUInt16LE(0x38, 54);
  file.writeUInt16LE(1, 56);
  file.writeUInt16LE(0x40, 58);
  file.writeUInt32LE(1, 0x40); // load
  file.writeUInt32LE(5, 0x44); // read, execute
  file.writeBigUInt64LE(LOAD_ADDRESS, 0x50);
  file.writeBigUInt64LE(LOAD_ADDRESS, 0x58);
  file.writeBigUInt64LE(BigInt(file.length), 0x60);
  file.writeBigUInt64LE(BigInt(file.length), 0x68);
  file.writeBigUInt64LE(0x1000n, 0x70);
  file.set(program.code, HEADER_BYTES);
  return file;
}

/** Imports the sandbox image unless it is there. */
export async function ensurePauseImage(runtime: ContainerRuntime): Promise<void> {
  if ((await runtime.inspectImage(PAUSE_IMAGE)) !== undefined) return;
  const { architecture } = await runtime.info();
  const pack = tar.pack();
  pack.entry(
    { name: 'pause', mode: 0o755 },
    runtime.kind === 'simulated' ? Buffer.alloc(0) : pauseProgram(architecture),
  );
  pack.finalize();
  await runtime.importImage(PAUSE_IMAGE, Readable.from(pack), ['ENTRYPOINT ["/pause"]']);
}
