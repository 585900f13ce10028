/** A statically linked busybox: the one program of the example's image, so that no image registry is needed. */
import { readFile } from 'node:fs/promises';
import { bringDebianPackage, unpackedProgram } from './debian-package.ts';
import type { Requirement } from './requirement.ts';

export const busybox: Requirement<string> = {
  name: 'busybox',
  async find(context) {
    const places = ['usr/bin/busybox', 'bin/busybox'].map((place) => unpackedProgram(context, 'busybox-static', place));
    for (const candidate of ['/bin/busybox', ...places]) {
      if (await isStatic(candidate)) return candidate;
    }
    return undefined;
  },
  describe: (found) => `static (${found})`,
  async install(context) {
    context.say("busybox: downloading busybox-static from this machine's Debian mirror, signature checked …");
    await bringDebianPackage({ package: 'busybox-static', suite: 'own' }, context);
  },
  otherwise:
    "A statically linked busybox is missing, for the example's image: put one at /bin/busybox (Debian: apt-get install busybox-static), or start with --no-hello.",
};

const interpreterHeader = 3;

/** An ELF file without a PT_INTERP program header asks for no dynamic linker. */
async function isStatic(file: string): Promise<boolean> {
  const bytes = await readFile(file).catch(() => undefined);
  if (bytes === undefined || bytes.length < 64 || bytes.readUInt32BE(0) !== 0x7f454c46 || bytes[4] !== 2) return false;
  const offset = Number(bytes.readBigUInt64LE(32));
  const size = bytes.readUInt16LE(54);
  const count = bytes.readUInt16LE(56);
  for (let index = 0; index < count; index++) {
    if (bytes.readUInt32LE(offset + index * size) === interpreterHeader) return false;
  }
  return true;
}
