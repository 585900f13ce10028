/** What of each kind cannot be changed once it stands, and how that is said. */
import t from 'tap';
import { startApi, type Json } from './api.ts';

const IN_DEFAULT = 'namespaces/default/';
const template = (labels: object = { app: 'a' }, image = 'busybox:1', spec: object = {}): Json => ({
  metadata: { labels },
  spec: { containers: [{ name: 'main', image }], ...spec },
});
const selector = { matchLabels: { app: 'a' } };
const claimSpec = {
  accessModes: ['ReadWriteOnce'],
  resources: { requests: { storage: '1Gi' } },
  storageClassName: 'x',
};
const STATEFUL =
  /^spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden$/;
const CLAIM =
  /^spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims$/;
const FIXED = 'field is immutable';

interface Case {
  readonly path: string;
  readonly kind: string;
  readonly body: object;
  /** Merge patches, and what each is refused with. */
  readonly refused: readonly (readonly [patch: object, says: RegExp])[];
  readonly allowed?: readonly object[];
}

const CASES: readonly Case[] = [
  {
    path: `api/v1/${IN_DEFAULT}configmaps`,
    kind: 'ConfigMap',
    body: { data: { a: '1' }, immutable: true },
    refused: [
      [{ data: { a: '2' } }, /^data: Forbidden: field is immutable when `immutable` is set$/],
      [{ immutable: false }, /^immutable: Forbidden: field is immutable when `immutable` is set$/],
      [{ binaryData: { b: 'AA==' } }, /^binaryData: Forbidden: field is immutable when `immutable` is set$/],
    ],
    allowed: [{ metadata: { labels: { x: 'y' } } }],
  },
  {
    path: `api/v1/${IN_DEFAULT}secrets`,
    kind: 'Secret',
    body: { data: { a: 'MQ==' }, immutable: true },
    refused: [
      [{ data: { a: 'Mg==' } }, /^data: Forbidden: field is immutable when `immutable` is set$/],
      [{ type: 'other' }, /^type: Invalid value: "other": field is immutable$/],
    ],
  },
  {
    path: `apis/apps/v1/${IN_DEFAULT}deployments`,
    kind: 'Deployment',
    body: { spec: { selector, template: template() } },
    refused: [
      [
        { spec: { selector: { matchLabels: { b: 'b' } }, template: { metadata: { labels: { b: 'b' } } } } },
        /^spec\.selector: Invalid value: .*: field is immutable$/,
      ],
    ],
    allowed: [{ spec: { replicas: 3, template: template({ app: 'a' }, 'busybox:2') } }],
  },
  {
    path: `apis/apps/v1/${IN_DEFAULT}statefulsets`,
    kind: 'StatefulSet',
    body: { spec: { selector, serviceName: 'a', template: template() } },
    refused: [
      [{ spec: { serviceName: 'b' } }, STATEFUL],
      [{ spec: { podManagementPolicy: 'Parallel' } }, STATEFUL],
      [{ spec: { volumeClaimTemplates: [{ metadata: { name: 'x' }, spec: claimSpec }] } }, STATEFUL],
    ],
    allowed: [{ spec: { replicas: 2, minReadySeconds: 3, template: template({ app: 'a' }, 'busybox:2') } }],
  },
  {
    path: `apis/apps/v1/${IN_DEFAULT}daemonsets`,
    kind: 'DaemonSet',
    body: { spec: { selector, template: template() } },
    refused: [
      [
        { spec: { selector: { matchLabels: { b: 'b' } }, template: { metadata: { labels: { b: 'b' } } } } },
        /^spec\.selector: Invalid value: .*: field is immutable$/,
      ],
    ],
  },
  {
    path: `apis/batch/v1/${IN_DEFAULT}jobs`,
    kind: 'Job',
    body: { spec: { template: template({}, 'busybox:1', { restartPolicy: 'Never' }), completions: 2 } },
    refused: [
      [
        { spec: { template: template({}, 'busybox:2', { restartPolicy: 'Never' }) } },
        /^spec\.template: Invalid value: .*: field is immutable$/,
      ],
      [{ spec: { completions: 3 } }, /^spec\.completions: Invalid value: 3: field is immutable$/],
      [{ spec: { completionMode: 'Indexed' } }, /^spec\.completionMode: Invalid value: "Indexed": field is immutable$/],
    ],
    allowed: [{ spec: { parallelism: 2, suspend: true } }],
  },
  {
    path: `api/v1/${IN_DEFAULT}persistentvolumeclaims`,
    kind: 'PersistentVolumeClaim',
    body: { spec: claimSpec },
    refused: [
      [{ spec: { accessModes: ['ReadWriteMany'] } }, CLAIM],
      [{ spec: { storageClassName: 'y' } }, CLAIM],
      [{ spec: { resources: { requests: { storage: '2Gi' } } } }, CLAIM],
    ],
    allowed: [{ spec: { volumeName: 'v' } }],
  },
  {
    path: 'api/v1/persistentvolumes',
    kind: 'PersistentVolume',
    body: {
      spec: {
        accessModes: ['ReadWriteOnce'],
        capacity: { storage: '1Gi' },
        hostPath: { path: '/a' },
        volumeMode: 'Filesystem',
      },
    },
    refused: [
      [
        { spec: { hostPath: { path: '/b' } } },
        /^spec\.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation/,
      ],
      [{ spec: { volumeMode: 'Block' } }, /^spec\.volumeMode: Invalid value: "Block": field is immutable$/],
    ],
    allowed: [{ spec: { capacity: { storage: '2Gi' }, persistentVolumeReclaimPolicy: 'Delete' } }],
  },
  {
    path: 'apis/storage.k8s.io/v1/storageclasses',
    kind: 'StorageClass',
    body: { provisioner: 'a.example.com', parameters: { a: 'b' } },
    refused: [
      [{ parameters: { a: 'c' } }, /^parameters: Forbidden: updates to parameters are forbidden\.$/],
      [{ provisioner: 'b.example.com' }, /^provisioner: Forbidden: updates to provisioner are forbidden\.$/],
      [{ reclaimPolicy: 'Retain' }, /^reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden\.$/],
      [
        { volumeBindingMode: 'WaitForFirstConsumer' },
        /^volumeBindingMode: Invalid value: "WaitForFirstConsumer": field is immutable$/,
      ],
    ],
    allowed: [{ allowVolumeExpansion: true }],
  },
  {
    path: 'apis/storage.k8s.io/v1/csidrivers',
    kind: 'CSIDriver',
    body: { spec: { attachRequired: true, fsGroupPolicy: 'File' } },
    refused: [
      [{ spec: { attachRequired: false } }, /^spec\.attachRequired: Invalid value: false: field is immutable$/],
    ],
    allowed: [{ spec: { fsGroupPolicy: 'None', requiresRepublish: true } }],
  },
  {
    path: 'apis/storage.k8s.io/v1/volumeattachments',
    kind: 'VolumeAttachment',
    body: { spec: { attacher: 'a', nodeName: 'n', source: { persistentVolumeName: 'v' } } },
    refused: [[{ spec: { nodeName: 'm' } }, /^spec: Invalid value: .*: field is immutable$/]],
  },
  {
    path: `apis/storage.k8s.io/v1/${IN_DEFAULT}csistoragecapacities`,
    kind: 'CSIStorageCapacity',
    body: { storageClassName: 'a', nodeTopology: { matchLabels: { a: 'b' } } },
    refused: [
      [{ storageClassName: 'b' }, /^storageClassName: Invalid value: "b": field is immutable$/],
      [{ nodeTopology: { matchLabels: { a: 'c' } } }, /^nodeTopology: Invalid value: .*: field is immutable$/],
    ],
    allowed: [{ capacity: '1Gi' }],
  },
  {
    path: 'apis/scheduling.k8s.io/v1/priorityclasses',
    kind: 'PriorityClass',
    body: { value: 5 },
    refused: [
      [{ value: 6 }, /^value: Forbidden: may not be changed in an update\.$/],
      [{ preemptionPolicy: 'Never' }, /^preemptionPolicy: Invalid value: "Never": field is immutable$/],
    ],
    allowed: [{ description: 'five' }],
  },
  {
    path: 'apis/node.k8s.io/v1/runtimeclasses',
    kind: 'RuntimeClass',
    body: { handler: 'a' },
    refused: [[{ handler: 'b' }, /^handler: Invalid value: "b": field is immutable$/]],
  },
  {
    path: 'apis/networking.k8s.io/v1/ingressclasses',
    kind: 'IngressClass',
    body: { spec: { controller: 'example.com/a' } },
    refused: [
      [
        { spec: { controller: 'example.com/b' } },
        /^spec\.controller: Invalid value: "example.com\/b": field is immutable$/,
      ],
    ],
  },
  {
    path: `apis/rbac.authorization.k8s.io/v1/${IN_DEFAULT}rolebindings`,
    kind: 'RoleBinding',
    body: { roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'a' }, subjects: [] },
    refused: [[{ roleRef: { name: 'b' } }, /^roleRef: Invalid value: .*: cannot change roleRef$/]],
  },
  {
    path: `api/v1/${IN_DEFAULT}services`,
    kind: 'Service',
    body: { spec: { ports: [{ port: 80 }] } },
    refused: [
      [
        { spec: { clusterIP: '10.97.0.77', clusterIPs: ['10.97.0.77'] } },
        /^spec\.clusterIPs\[0\]: Invalid value: \["10.97.0.77"\]: may not change once set$/,
      ],
    ],
    allowed: [{ spec: { ports: [{ port: 81 }] } }],
  },
  {
    path: `apis/apps/v1/${IN_DEFAULT}controllerrevisions`,
    kind: 'ControllerRevision',
    body: { revision: 1, data: { a: 1 } },
    refused: [[{ data: { a: 2 } }, new RegExp(`^data: Invalid value: .*: ${FIXED}$`)]],
    allowed: [{ revision: 2 }],
  },
  {
    path: `apis/discovery.k8s.io/v1/${IN_DEFAULT}endpointslices`,
    kind: 'EndpointSlice',
    body: { addressType: 'IPv4', endpoints: [] },
    refused: [[{ addressType: 'IPv6' }, /^addressType: Invalid value: "IPv6": field is immutable$/]],
  },
];

t.test('what cannot be changed', async (t) => {
  const api = await startApi(t, { serviceCidr: '10.97.0.0/20' });
  for (const { path, kind, body, refused, allowed = [] } of CASES) {
    const [, group, version] = /^apis?\/(?:([^/]+\.?[^/]*)\/)?(v1)\//.exec(path) ?? [];
    const apiVersion = path.startsWith('api/') ? 'v1' : `${group}/${version}`;
    const made = await api.post(`/${path}`, { apiVersion, kind, metadata: { name: 'one' }, ...body });
    t.equal(made.status, 201, `${kind}: ${made.body.message ?? 'made'}`);
    for (const [patch, says] of refused) {
      const { status, body: answer } = await api.patch(`/${path}/one`, 'merge', patch);
      t.equal(status, 422, `${kind} ${JSON.stringify(patch)}`);
      const causes: string[] = (answer.details?.causes ?? []).map(({ field, message }: Json) => `${field}: ${message}`);
      t.ok(
        causes.some((cause) => says.test(cause)),
        `${kind}: ${String(says)} in ${causes.join(' | ')}`,
      );
    }
    for (const patch of allowed) {
      const { status, body: answer } = await api.patch(`/${path}/one`, 'merge', patch);
      t.equal(status, 200, `${kind} ${JSON.stringify(patch)}: ${answer.message ?? 'changed'}`);
    }
  }
});
