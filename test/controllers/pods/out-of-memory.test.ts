/** An engine on a busy machine may hear of a lack of memory only after the container has ended: then it says so in an event, and nowhere else. */
import t from 'tap';
import { DockerRuntime } from '../../../runtime/docker/docker-runtime.ts';
import { serverAddresses } from '../../harness/servers.ts';
import { BUSYBOX_IMAGE, ensureBusyboxImage } from '../../runtime/busybox-image.ts';
import { OneNode } from './one-node.ts';

/** The real engine, as it is when it hears late. */
class LateEngine extends DockerRuntime {
  override async inspectContainer(id: string) {
    const container = await super.inspectContainer(id);
    return container && { ...container, outOfMemory: false };
  }
}

t.test('the pod says so all the same', { timeout: 120_000 }, async (t) => {
  const { dockerHost, busybox } = await serverAddresses();
  const engine = new LateEngine({ socketPath: new URL(dockerHost).pathname });
  await ensureBusyboxImage(engine, busybox);
  const node = new OneNode(engine);
  t.teardown(() => node.close());
  await node.start();
  node.run('greedy', {
    restartPolicy: 'Never',
    containers: [
      {
        name: 'main',
        image: BUSYBOX_IMAGE,
        imagePullPolicy: 'IfNotPresent',
        command: ['/bin/sh', '-c', 'x=a; while :; do x=$x$x$x$x; done'],
        resources: { limits: { memory: '16Mi' } },
      },
    ],
  });
  const pod = await node.until('the reason is known', () => {
    const found = node.pod('greedy');
    return found?.status?.containerStatuses?.[0]?.state?.terminated?.reason === 'OOMKilled' && found;
  });
  t.match(pod.status, { phase: 'Failed', containerStatuses: [{ state: { terminated: { exitCode: 137 } } }] });
});
