/** The image that the tests run: one static busybox, imported into the engine without any registry. */
import { readFileSync } from 'node:fs';
import { Readable } from 'node:stream';
import tar from 'tar-stream';
import type { ContainerRuntime } from '../../runtime/container-runtime.ts';

export const BUSYBOX_IMAGE = 'reckon.dev/test-busybox:1';

const APPLETS =
  'sh cat echo sleep env ls mkdir touch rm true false id hostname nslookup wget httpd ip mount stat readlink head tail test kill nc ps chmod dd seq wc grep stty trap'.split(
    ' ',
  );

/** `busybox` is the path of a static one, as the harness knows it. */
export async function ensureBusyboxImage(runtime: ContainerRuntime, busybox: string): Promise<void> {
  if ((await runtime.inspectImage(BUSYBOX_IMAGE)) !== undefined) return;
  const pack = tar.pack();
  pack.entry({ name: 'bin/busybox', mode: 0o755 }, readFileSync(busybox));
  for (const applet of APPLETS) pack.entry({ name: `bin/${applet}`, type: 'symlink', linkname: 'busybox' });
  pack.entry({ name: 'tmp/', type: 'directory', mode: 0o1777 });
  pack.entry({ name: 'etc/passwd' }, 'root:x:0:0:root:/:/bin/sh\napp:x:1000:1000:app:/:/bin/sh\n');
  pack.entry({ name: 'etc/group' }, 'root:x:0:\napp:x:1000:\n');
  pack.finalize();
  await runtime.importImage(BUSYBOX_IMAGE, Readable.from(pack), ['CMD ["/bin/sh"]', 'ENV PATH=/bin']);
}
