/**
 * The example's image, made here from a statically linked busybox and a page, so that no registry is asked for it. Called by `hello.ts`; the tests use it too.
 */
import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import tar from 'tar-stream';
import type { ContainerRuntime } from '../../runtime/container-runtime.ts';
import { runOrThrow } from '../set-up/command.ts';

export const helloImage = 'reckon-hello:1';

/** Shows which pod answered, and how many visits the shared volume has seen. */
const page = `#!/bin/sh
echo "$(hostname) $(date -u +%FT%TZ)" >> /data/visits 2> /dev/null
printf 'Content-Type: text/plain\\r\\n\\r\\n'
echo "Hello from $(hostname)."
echo "Visit $(wc -l < /data/visits 2> /dev/null || echo '?') of those that the volume remembers."
`;

const changes = ['CMD ["/bin/busybox","httpd","-f","-p","8080","-h","/www"]', 'EXPOSE 8080', 'ENV PATH=/bin'];

/** Imports it unless it is there. */
export async function ensureHelloImage(runtime: ContainerRuntime, busybox: string): Promise<{ imported: boolean }> {
  if ((await runtime.inspectImage(helloImage)) !== undefined) return { imported: false };
  const program = await readFile(busybox);
  const applets = (await runOrThrow(busybox, ['--list']))
    .split('\n')
    .filter((name) => name !== '' && name !== 'busybox');
  const pack = tar.pack();
  const folders: Record<string, number> = {
    bin: 0o755,
    data: 0o777,
    etc: 0o755,
    tmp: 0o1777,
    www: 0o755,
    'www/cgi-bin': 0o755,
  };
  for (const [name, mode] of Object.entries(folders)) pack.entry({ name, type: 'directory', mode });
  pack.entry({ name: 'bin/busybox', mode: 0o755 }, program);
  for (const name of applets) pack.entry({ name: `bin/${name}`, type: 'symlink', linkname: 'busybox' });
  pack.entry(
    { name: 'etc/passwd', mode: 0o644 },
    'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
  );
  pack.entry({ name: 'www/cgi-bin/index.cgi', mode: 0o755 }, page);
  pack.finalize();
  await runtime.importImage(helloImage, Readable.from(pack), changes);
  return { imported: true };
}
