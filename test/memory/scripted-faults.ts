/**
 * Things that go wrong, each with what `reckon why` must say of it: the first cause (who did what to which object) and what it came to. Run against a whole instance by why.test.ts (those that a simulated engine can show) and
 * by test/prove/prove-why.ts (all).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Json } from '../api-server/api.ts';
import type { RunningReckon } from '../harness/start-reckon.ts';
import { claim, deployment, pod } from '../spine/manifests.ts';

export interface Scene {
  readonly reckon: RunningReckon;
  readonly namespace: string;
  readonly kubectl: (words: string, input?: unknown) => Promise<string>;
  /** The pods of the namespace that are not on their way out. */
  readonly pods: () => Promise<readonly Json[]>;
  /** The pod of a Deployment, or of its own name, once it runs. */
  readonly running: (name: string) => Promise<Json>;
  readonly docker: (words: string) => Promise<string>;
}

export interface Fault {
  readonly what: string;
  /** Only a real engine can show it. */
  readonly needsDocker?: true;
  /** What is wrong concerns the node, and so everybody: it goes alone, after the others. */
  readonly alone?: true;
  readonly objects: readonly Json[];
  /** What happens then; resolves to what is asked about, `pod/x`, if that is not `pod/<of the only object>`. */
  readonly act?: (scene: Scene) => Promise<string | void>;
  /** The first cause: actor, verb and object. */
  readonly first: RegExp;
  /** All of these stand in what a person reads. */
  readonly says: readonly RegExp[];
}

const inWeb = (what: string) => new RegExp(`^admin (create|patch|apply) ${what}$`);
const deleted = async ({ kubectl, running }: Scene, name: string, act: string): Promise<string> => {
  const { metadata } = await running(name);
  await kubectl(act.replace('POD', metadata.name as string));
  return `pod/${metadata.name}`;
};
const crash = (code: number): Json => ({
  script: `exit ${code}`,
  container: { env: [{ name: 'RECKON_SIMULATED_EXIT', value: `${code}:100` }] },
});
const probe = (command: string, more: Json = {}): Json => ({
  exec: { command: ['sh', '-c', command] },
  periodSeconds: 1,
  failureThreshold: 1,
  ...more,
});
const WEB = inWeb('Deployment web');
const POD = inWeb('Pod web');
const web = (options: Parameters<typeof deployment>[1] = {}): Json => deployment('web', { replicas: 1, ...options });

export const FAULTS: readonly Fault[] = [
  {
    what: 'out of memory',
    needsDocker: true,
    objects: [web({ script: 'tail /dev/zero', container: { resources: { limits: { memory: '16Mi' } } } })],
    first: WEB,
    says: [/replicasets controller: create Pod/, /main killed: out of memory.*exit code 137/],
  },
  {
    what: 'an image that is nowhere',
    needsDocker: true,
    objects: [web({ container: { image: 'localhost:1/nowhere:1' } })],
    first: WEB,
    says: [/main: (ErrImagePull|ImagePullBackOff)/],
  },
  {
    what: 'an image that is pulled for again and again',
    needsDocker: true,
    objects: [pod('web', { container: { image: 'localhost:1/nowhere:2', imagePullPolicy: 'Always' } })],
    act: async ({ pods }) => {
      while (!JSON.stringify(await pods()).includes('ImagePullBackOff')) await sleep(300);
    },
    first: POD,
    says: [/main: ImagePullBackOff: .*localhost:1\/nowhere:2/],
  },
  {
    what: 'a failing liveness probe',
    needsDocker: true,
    objects: [web({ container: { livenessProbe: probe('exit 7') } })],
    first: WEB,
    says: [/main is (told to stop|killed).*liveness probe failed/, /main exited/],
  },
  {
    what: 'a failing readiness probe',
    needsDocker: true,
    objects: [web({ container: { readinessProbe: probe('exit 7') } })],
    first: WEB,
    says: [/main: NotReady: its readiness probe does not succeed/],
  },
  {
    what: 'a failing startup probe',
    needsDocker: true,
    objects: [web({ container: { startupProbe: probe('exit 7') } })],
    first: WEB,
    says: [/main is (told to stop|killed).*startup probe failed/],
  },
  {
    what: 'a crash loop',
    objects: [web(crash(3))],
    act: async ({ pods }) => {
      while (!JSON.stringify(await pods()).includes('CrashLoopBackOff')) await sleep(300);
    },
    first: WEB,
    says: [/main exited, exit code 3/, /main: CrashLoopBackOff/],
  },
  {
    what: 'a pod that a user deleted',
    objects: [web()],
    act: (scene) => deleted(scene, 'web', 'delete pod POD --wait=false'),
    first: /^admin (update|delete) Pod web-/,
    says: [/Why it (went|is going)/, /admin: (update|delete) Pod web-/],
  },
  {
    what: 'a rollout',
    objects: [web()],
    act: (scene) => deleted(scene, 'web', 'set env deployment/web VERSION=2'),
    first: /^admin patch Deployment web$/,
    says: [/VERSION/, /deployments controller: patch ReplicaSet/, /replicasets controller: (update|delete) Pod/],
  },
  {
    what: 'fewer replicas',
    objects: [web()],
    act: (scene) => deleted(scene, 'web', 'scale deployment/web --replicas=0'),
    first: /^admin (patch|update) Deployment web$/,
    says: [/spec.replicas +1 → 0/, /wants 0 pods and has 1/],
  },
  {
    what: 'an owner that was deleted',
    objects: [web()],
    act: (scene) => deleted(scene, 'web', 'delete deployment web --wait=false'),
    first: /^admin (update|delete) Deployment web$/,
    says: [/admin: (update|delete) Deployment web/, /garbagecollector controller: (update|delete) Pod web-/],
  },
  {
    what: 'a namespace that was deleted',
    objects: [web()],
    act: (scene) => deleted(scene, 'web', `delete namespace ${scene.namespace} --wait=false`),
    first: /^admin (update|delete) Namespace /,
    says: [/admin: (update|delete) Namespace/, /namespace \S+ is being deleted/],
  },
  {
    what: 'an eviction',
    objects: [web()],
    async act({ kubectl, running, namespace }) {
      const { name } = (await running('web')).metadata as { name: string };
      await kubectl(`create --raw /api/v1/namespaces/${namespace}/pods/${name}/eviction -f -`, {
        apiVersion: 'policy/v1',
        kind: 'Eviction',
        metadata: { name, namespace },
      });
      return `pod/${name}`;
    },
    first: /^admin (update|delete) Pod web-/,
    says: [/evicted|eviction/i],
  },
  {
    what: 'a quota that is used up',
    objects: [
      { apiVersion: 'v1', kind: 'ResourceQuota', metadata: { name: 'none' }, spec: { hard: { pods: '0' } } },
      web(),
    ],
    async act({ kubectl }) {
      while (!(await kubectl('get deployment web -o json')).includes('exceeded quota')) await sleep(300);
      return 'deploy/web';
    },
    first: WEB,
    says: [/ReplicaFailure: FailedCreate: .*exceeded quota: none/],
  },
  {
    what: 'a ConfigMap that is missing',
    objects: [web({ container: { envFrom: [{ configMapRef: { name: 'nowhere' } }] } })],
    first: WEB,
    says: [/main: CreateContainerConfigError: .*configmap "nowhere" not found/],
  },
  {
    what: 'a claim that is missing',
    objects: [pod('web', { spec: { volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'nowhere' } }] } })],
    first: POD,
    says: [/not PodScheduled: Unschedulable: .*persistentvolumeclaim "nowhere" not found/],
  },
  {
    what: 'too much processor asked for',
    objects: [web({ container: { resources: { requests: { cpu: '9000' } } } })],
    first: WEB,
    says: [/not PodScheduled: Unschedulable: 0\/1 nodes are available: 1 Insufficient cpu/],
  },
  {
    what: 'a node selector that no node has',
    objects: [web({ spec: { nodeSelector: { colour: 'blue' } } })],
    first: WEB,
    says: [/not PodScheduled: Unschedulable: .*node affinity\/selector/],
  },
  {
    what: 'a container killed behind our back',
    needsDocker: true,
    objects: [web()],
    async act({ running, docker }) {
      const { metadata, status } = await running('web');
      await docker(`kill ${String(status.containerStatuses[0].containerID).replace('docker://', '')}`);
      return `pod/${metadata.name}`;
    },
    first: WEB,
    says: [/main exited, exit code 137/, /main started[^]*main exited[^]*main started/],
  },
  {
    what: 'a container that does not heed the signal',
    needsDocker: true,
    objects: [
      pod('web', { script: "trap '' TERM; while :; do sleep 1; done", spec: { terminationGracePeriodSeconds: 1 } }),
    ],
    async act(scene) {
      await scene.running('web');
      await scene.kubectl('delete pod web --wait=false');
      return 'pod/web';
    },
    first: /^admin (update|delete) Pod web$/,
    says: [/is told to stop.*the pod is being deleted/, /is killed.*did not end within its grace period of 1 s/],
  },
  {
    what: 'a volume whose data is gone',
    needsDocker: true,
    objects: [
      claim('data'),
      pod('web', {
        spec: { volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }] },
        container: { volumeMounts: [{ name: 'data', mountPath: '/data' }] },
      }),
    ],
    async act({ running, kubectl, docker }) {
      await running('web');
      const volume = JSON.parse(await kubectl('get pvc data -o json')).spec.volumeName as string;
      const { spec } = JSON.parse(await kubectl(`get pv ${volume} -o json`));
      await kubectl('delete pod web --now');
      await docker(`volume rm ${spec.csi.volumeHandle}`);
      await kubectl(
        'apply -f -',
        pod('again', {
          spec: { volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }] },
          container: { volumeMounts: [{ name: 'data', mountPath: '/data' }] },
        }),
      );
      return 'pod/again';
    },
    first: /^admin create Pod again$/,
    says: [/is not on its node any more|lost|gone/i],
  },
  {
    what: 'a taint',
    alone: true,
    objects: [],
    async act({ reckon, kubectl }) {
      const node = reckon.instance.settings.nodeName;
      await kubectl(`taint node ${node} closed=yes:NoSchedule`);
      await kubectl('apply -f -', pod('web'));
      while (!(await kubectl('get pod web -o json')).includes('untolerated taint')) await sleep(300);
      await kubectl(`taint node ${node} closed:NoSchedule-`);
    },
    first: POD,
    says: [/0\/1 nodes are available: 1 node\(s\) had untolerated taint|admin: create Pod web/],
  },
  {
    what: 'a node that is lost',
    alone: true,
    needsDocker: true,
    objects: [
      web({
        spec: {
          tolerations: ['not-ready', 'unreachable'].map((key) => ({
            key: `node.kubernetes.io/${key}`,
            operator: 'Exists',
            effect: 'NoExecute',
            tolerationSeconds: 1,
          })),
        },
      }),
    ],
    async act({ reckon, running, kubectl }) {
      const { metadata } = await running('web');
      const agent = await reckon.kill('pods', 'SIGSTOP');
      try {
        while (!(await kubectl(`get pod ${metadata.name} -o json`)).includes('deletionTimestamp')) await sleep(1_000);
      } finally {
        process.kill(agent, 'SIGCONT');
      }
      return `pod/${metadata.name}`;
    },
    first: /^system:controller:nodes patch Node /,
    says: [/nodes controller: .*Node/, /does not tolerate the taints of node|unreachable|not heard/],
  },
];
