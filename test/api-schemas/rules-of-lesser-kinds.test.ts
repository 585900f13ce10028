/** What the rules of autoscalers, networking, storage and the lesser kinds say, by the words that Kubernetes has for it. */
import { judgeChanges, type Case, type Json } from './judged-changes.ts';

const clustered = { name: 'x', uid: 'u' };
const metadata = { ...clustered, namespace: 'default' };
const service = { name: 's', port: { number: 80 } };
const path = { path: '/', pathType: 'Prefix', backend: { service } };

const good: Record<string, Json> = {
  HorizontalPodAutoscaler: {
    apiVersion: 'autoscaling/v2',
    metadata,
    spec: {
      scaleTargetRef: { kind: 'Deployment', name: 'd' },
      maxReplicas: 3,
      metrics: [
        { type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 50 } } },
      ],
    },
  },
  Ingress: {
    apiVersion: 'networking.k8s.io/v1',
    metadata,
    spec: { tls: [{ hosts: ['*.a.b', 'a.b'] }], rules: [{ host: '*.a.b', http: { paths: [path] } }] },
  },
  NetworkPolicy: {
    apiVersion: 'networking.k8s.io/v1',
    metadata,
    spec: {
      ingress: [
        {
          from: [{ ipBlock: { cidr: '10.0.0.0/8', except: ['10.1.0.0/16'] } }],
          ports: [{ port: 80, endPort: 80 }, { port: 'http' }],
        },
      ],
    },
  },
  IngressClass: {
    apiVersion: 'networking.k8s.io/v1',
    metadata: clustered,
    spec: { controller: 'acme.io/foo', parameters: { kind: 'K', name: 'n' } },
  },
  VolumeAttachment: {
    apiVersion: 'storage.k8s.io/v1',
    metadata: clustered,
    spec: { attacher: 'a.b', nodeName: 'n', source: { persistentVolumeName: 'v' } },
  },
  CSINode: {
    apiVersion: 'storage.k8s.io/v1',
    metadata: clustered,
    spec: { drivers: [{ name: 'a.b', nodeID: 'n', allocatable: { count: 1 }, topologyKeys: ['a/b'] }] },
  },
  CSIDriver: { apiVersion: 'storage.k8s.io/v1', metadata: clustered, spec: { tokenRequests: [{ audience: '' }] } },
  CSIStorageCapacity: { apiVersion: 'storage.k8s.io/v1', metadata, storageClassName: 's', capacity: '1Gi' },
  ControllerRevision: { apiVersion: 'apps/v1', metadata, revision: 1, data: {} },
  RuntimeClass: {
    apiVersion: 'node.k8s.io/v1',
    metadata: clustered,
    handler: 'h',
    overhead: { podFixed: { cpu: '1' } },
  },
  Secret: { apiVersion: 'v1', metadata, type: 'kubernetes.io/dockerconfigjson', data: { '.dockerconfigjson': 'e30=' } },
  LimitRange: { apiVersion: 'v1', metadata, spec: { limits: [{ type: 'Pod', max: { cpu: '1' } }] } },
};

const METRIC = 'spec.metrics[0]';
const PATH = 'spec.rules[0].http.paths[0]';
const BACKEND = 'spec rules 0 http paths 0 backend';
const FROM = 'spec ingress 0 from 0';
const SUBDOMAIN =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

const cases: readonly Case[] = [
  ['HorizontalPodAutoscaler', 'spec scaleTargetRef kind', '', 'spec.scaleTargetRef.kind: Required value'],
  ['HorizontalPodAutoscaler', 'spec scaleTargetRef name', undefined, 'spec.scaleTargetRef.name: Required value'],
  [
    'HorizontalPodAutoscaler',
    'spec scaleTargetRef name',
    'a/b',
    'spec.scaleTargetRef.name: Invalid value: "a/b": may not contain \'/\'',
  ],
  [
    'HorizontalPodAutoscaler',
    'spec minReplicas',
    0,
    'spec.minReplicas: Invalid value: 0: must be greater than or equal to 1',
  ],
  ['HorizontalPodAutoscaler', 'spec maxReplicas', 0, 'spec.maxReplicas: Invalid value: 0: must be greater than 0'],
  [
    'HorizontalPodAutoscaler',
    'spec metrics 0',
    { type: 'Resource' },
    `${METRIC}.resource: Required value: must populate information for the given metric source`,
  ],
  [
    'HorizontalPodAutoscaler',
    'spec metrics 0 pods',
    { metric: { name: 'm' }, target: { type: 'AverageValue', averageValue: '1' } },
    `${METRIC}.pods: Forbidden: must populate the given metric source only`,
  ],
  [
    'HorizontalPodAutoscaler',
    'spec metrics 0 resource target averageUtilization',
    0,
    `${METRIC}.resource.target.averageUtilization: Invalid value: 0: must be greater than 0`,
  ],
  [
    'HorizontalPodAutoscaler',
    'spec metrics 0 resource target averageUtilization',
    undefined,
    `${METRIC}.resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization`,
  ],
  [
    'HorizontalPodAutoscaler',
    'spec metrics 0 resource target averageValue',
    '-1',
    `${METRIC}.resource.target.averageValue: Forbidden: may not set both a target raw value and a target utilization`,
    `${METRIC}.resource.target.averageValue: Invalid value: "-1": must be positive`,
  ],
  [
    'HorizontalPodAutoscaler',
    'spec metrics 0',
    { type: 'External', external: { metric: { name: '' }, target: { type: 'Value' } } },
    `${METRIC}.external.metric.name: Required value: must specify a metric name`,
    `${METRIC}.external.target.averageValue: Required value: must set either a target value for metric or a per-pod target`,
  ],
  ['Ingress', 'spec ingressClassName', 'A', `spec.ingressClassName: Invalid value: "A": ${SUBDOMAIN}`],
  [
    'Ingress',
    'spec rules 0 host',
    '10.0.0.1',
    'spec.rules[0].host: Invalid value: "10.0.0.1": must be a DNS name, not an IP address',
  ],
  [
    'Ingress',
    'spec rules 0 http paths 0 path',
    '/a//b/..',
    `${PATH}.path: Invalid value: "/a//b/..": must not contain '//'`,
    `${PATH}.path: Invalid value: "/a//b/..": cannot end with '/..'`,
  ],
  ['Ingress', 'spec rules 0 http paths 0', { ...path, path: '/a//b', pathType: 'ImplementationSpecific' }],
  [
    'Ingress',
    'spec rules 0 http paths 0',
    { ...path, path: 'a', pathType: 'ImplementationSpecific' },
    `${PATH}.path: Invalid value: "a": must be an absolute path`,
  ],
  [
    'Ingress',
    'spec rules 0 http paths 0 pathType',
    undefined,
    `${PATH}.pathType: Required value: pathType must be specified`,
  ],
  ['Ingress', BACKEND, {}, `${PATH}.backend: Invalid value: "": resource or service backend is required`],
  ['Ingress', `${BACKEND} service port`, {}, `${PATH}.backend: Required value: port name or number is required`],
  [
    'Ingress',
    `${BACKEND} service port name`,
    'http',
    `${PATH}.backend: Invalid value: "": cannot set both port name & port number`,
  ],
  [
    'Ingress',
    `${BACKEND} service name`,
    '1',
    `${PATH}.backend.service.name: Invalid value: "1": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')`,
  ],
  ['Ingress', 'spec tls 0 hosts', ['_'], `spec.tls[0].hosts[0]: Invalid value: "_": ${SUBDOMAIN}`],
  ['NetworkPolicy', FROM, {}, 'spec.ingress[0].from[0]: Required value: must specify a peer'],
  [
    'NetworkPolicy',
    `${FROM} podSelector`,
    {},
    'spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer',
  ],
  [
    'NetworkPolicy',
    `${FROM} ipBlock except`,
    ['10.0.0.0/8', '11.0.0.0/16'],
    'spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: "10.0.0.0/8": must be a strict subset of `cidr`',
    'spec.ingress[0].from[0].ipBlock.except[1]: Invalid value: "11.0.0.0/16": must be a strict subset of `cidr`',
  ],
  [
    'NetworkPolicy',
    'spec ingress 0 ports 0 endPort',
    79,
    'spec.ingress[0].ports[0].endPort: Invalid value: 79: must be greater than or equal to `port`',
  ],
  [
    'NetworkPolicy',
    'spec ingress 0 ports 1 endPort',
    79,
    'spec.ingress[0].ports[1].endPort: Invalid value: 79: may not be specified when `port` is non-numeric',
  ],
  [
    'IngressClass',
    'spec controller',
    'foo',
    'spec.controller: Invalid value: "foo": must be a domain-prefixed path (such as "acme.io/foo")',
  ],
  ['IngressClass', 'spec controller', 'A/b', `spec.controller: Invalid value: "A": ${SUBDOMAIN}`],
  [
    'IngressClass',
    'spec parameters scope',
    'Namespace',
    "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
  ],
  [
    'IngressClass',
    'spec parameters namespace',
    'n',
    "spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'",
  ],
  ['VolumeAttachment', 'spec attacher', '', 'spec.attacher: Required value'],
  ['VolumeAttachment', 'spec attacher', '_', `spec.attacher: Invalid value: "_": ${SUBDOMAIN}`],
  [
    'VolumeAttachment',
    'spec source',
    {},
    'spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName',
  ],
  [
    'VolumeAttachment',
    'spec source persistentVolumeName',
    '',
    'spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName',
  ],
  ['CSINode', 'spec drivers 0 name', '', 'spec.drivers[0].name: Required value'],
  ['CSINode', 'spec drivers 0 nodeID', undefined, 'spec.drivers[0].nodeID: Required value'],
  ['CSINode', 'spec drivers 1', { name: 'a.b', nodeID: 'n' }, 'spec.drivers[1].name: Duplicate value: "a.b"'],
  [
    'CSINode',
    'spec drivers 0 allocatable count',
    -1,
    'spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0',
  ],
  ['CSINode', 'spec drivers 0 topologyKeys', ['a', 'a'], 'spec.drivers[0]: Duplicate value: "a"'],
  [
    'CSIDriver',
    'spec fsGroupPolicy',
    'x',
    'spec.fsGroupPolicy: Unsupported value: "x": supported values: "File", "None", "ReadWriteOnceWithFSType"',
  ],
  [
    'CSIDriver',
    'spec volumeLifecycleModes',
    ['x'],
    'spec.volumeLifecycleModes: Unsupported value: "x": supported values: "Persistent", "Ephemeral"',
  ],
  [
    'CSIDriver',
    'spec tokenRequests',
    [{ audience: 'a' }, { audience: 'a' }],
    'spec.tokenRequests[1].audience: Duplicate value: "a"',
  ],
  [
    'CSIDriver',
    'spec tokenRequests 0 expirationSeconds',
    1,
    'spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes',
  ],
  ['CSIStorageCapacity', 'storageClassName', '_', `storageClassName: Invalid value: "_": ${SUBDOMAIN}`],
  ['CSIStorageCapacity', 'capacity', '-1', 'capacity: Invalid value: "-1": must be greater than or equal to 0'],
  ['ControllerRevision', 'data', undefined, 'data: Required value: data is mandatory'],
  ['ControllerRevision', 'revision', -1, 'revision: Invalid value: -1: must be greater than or equal to 0'],
  [
    'RuntimeClass',
    'overhead podFixed cpu',
    '-1',
    'overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0',
  ],
  [
    'Secret',
    'data .dockerconfigjson',
    'eA==',
    'data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": invalid character \'x\' looking for beginning of value',
  ],
  [
    'Secret',
    'data .dockerconfigjson',
    '',
    'data[.dockerconfigjson]: Invalid value: "<secret contents redacted>": unexpected end of JSON input',
  ],
  ['LimitRange', 'spec limits 1', { type: 'Pod' }, 'spec.limits[1].type: Duplicate value: "Pod"'],
];

const updates: readonly Case[] = [
  [
    'CSINode',
    'spec drivers 0 nodeID',
    'm',
    'CSINodeDriver: Invalid value: {"name":"a.b","nodeID":"m","allocatable":{"count":1},"topologyKeys":["a/b"]}: field is immutable',
  ],
  ['CSINode', 'spec drivers', []],
];

judgeChanges(good, cases, updates);
