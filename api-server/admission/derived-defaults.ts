/**
 * Defaults that depend on other fields, which `default` in a schema cannot say: one function per type, keyed by the type's name. Called by
 * `defaults.ts` for every object of that type, wherever it stands. They follow `pkg/apis/*\/v1/defaults.go` of Kubernetes; what its
 * admission plugins add to a new object is in `../strategy/`.
 */

type JsonObject = Record<string, unknown>;
type Derive = (object: JsonObject) => void;

const CORE = 'io.k8s.api.core.v1.';
const APPS = 'io.k8s.api.apps.v1.';

const asObject = (value: unknown): JsonObject =>
  typeof value === 'object' && value !== null ? (value as JsonObject) : {};
const asObjects = (value: unknown): JsonObject[] => (Array.isArray(value) ? value.map(asObject) : []);
const isEmpty = (value: unknown): boolean => value === undefined || value === '';

/** `latest`, and no tag at all, may change under the same name; a digest or another tag does not. */
export function pullPolicyFor(image: string): 'Always' | 'IfNotPresent' {
  if (image.includes('@')) return 'IfNotPresent';
  const tag = /:([^:/]+)$/.exec(image)?.[1] ?? 'latest';
  return tag === 'latest' ? 'Always' : 'IfNotPresent';
}

function container(object: JsonObject): void {
  if (isEmpty(object['imagePullPolicy']) && typeof object['image'] === 'string' && object['image'] !== '') {
    object['imagePullPolicy'] = pullPolicyFor(object['image']);
  }
  object['terminationMessagePath'] ??= '/dev/termination-log';
  object['terminationMessagePolicy'] ??= 'File';
  object['resources'] ??= {};
}

function podSpec(spec: JsonObject): void {
  spec['restartPolicy'] ??= 'Always';
  spec['dnsPolicy'] ??= 'ClusterFirst';
  spec['schedulerName'] ??= 'default-scheduler';
  spec['terminationGracePeriodSeconds'] ??= 30;
  spec['securityContext'] ??= {};
  // `serviceAccount` is the old name of the same field; both always carry the same value.
  if (isEmpty(spec['serviceAccountName']) && !isEmpty(spec['serviceAccount']))
    spec['serviceAccountName'] = spec['serviceAccount'];
  if (!isEmpty(spec['serviceAccountName'])) spec['serviceAccount'] = spec['serviceAccountName'];
}

/** What only a Pod itself gets, not the template that it comes from. */
function pod(object: JsonObject): void {
  const spec = asObject(object['spec']);
  spec['enableServiceLinks'] ??= true;
  for (const each of [...asObjects(spec['containers']), ...asObjects(spec['initContainers'])]) {
    const resources = asObject(each['resources']);
    const limits = Object.entries(asObject(resources['limits']));
    if (limits.length > 0) {
      const requests = { ...asObject(resources['requests']) };
      for (const [resource, limit] of limits) requests[resource] ??= limit;
      resources['requests'] = requests;
    }
    if (spec['hostNetwork'] === true)
      for (const port of asObjects(each['ports'])) port['hostPort'] ??= port['containerPort'];
  }
}

/** Go cannot tell a zero from nothing here. */
const PROBE_DEFAULTS = { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 } as const;

function probe(object: JsonObject): void {
  for (const [field, value] of Object.entries(PROBE_DEFAULTS)) if (object[field] === 0) object[field] = value;
}

function deploymentStrategy(strategy: JsonObject): void {
  strategy['type'] ??= 'RollingUpdate';
  if (strategy['type'] === 'RollingUpdate') {
    const rollingUpdate = asObject((strategy['rollingUpdate'] ??= {}));
    rollingUpdate['maxUnavailable'] ??= '25%';
    rollingUpdate['maxSurge'] ??= '25%';
  }
}

function statefulSetSpec(spec: JsonObject): void {
  spec['updateStrategy'] ??= {};
  for (const template of asObjects(spec['volumeClaimTemplates'])) {
    if (isEmpty(template['apiVersion'])) template['apiVersion'] = 'v1';
    if (isEmpty(template['kind'])) template['kind'] = 'PersistentVolumeClaim';
  }
}

function statefulSetStrategy(strategy: JsonObject): void {
  strategy['type'] ??= 'RollingUpdate';
  if (strategy['type'] === 'RollingUpdate') asObject((strategy['rollingUpdate'] ??= {}))['partition'] ??= 0;
}

function daemonSetStrategy(strategy: JsonObject): void {
  strategy['type'] ??= 'RollingUpdate';
  if (strategy['type'] === 'RollingUpdate') {
    const rollingUpdate = asObject((strategy['rollingUpdate'] ??= {}));
    rollingUpdate['maxUnavailable'] ??= 1;
    rollingUpdate['maxSurge'] ??= 0;
  }
}

function serviceSpec(spec: JsonObject): void {
  spec['sessionAffinity'] ??= 'None';
  spec['type'] ??= 'ClusterIP';
  for (const port of asObjects(spec['ports'])) {
    port['protocol'] ??= 'TCP';
    const target = port['targetPort'];
    if (target === undefined || target === 0 || target === '') port['targetPort'] = port['port'];
  }
  const external = spec['type'] === 'NodePort' || spec['type'] === 'LoadBalancer';
  if (external) spec['externalTrafficPolicy'] ??= 'Cluster';
  if (spec['type'] === 'LoadBalancer') spec['allocateLoadBalancerNodePorts'] ??= true;
  if (spec['type'] !== 'ExternalName') {
    spec['internalTrafficPolicy'] ??= 'Cluster';
    spec['ipFamilies'] ??= ['IPv4'];
    spec['ipFamilyPolicy'] ??= 'SingleStack';
    if (!isEmpty(spec['clusterIP']) && spec['clusterIPs'] === undefined) spec['clusterIPs'] = [spec['clusterIP']];
  }
  if (spec['sessionAffinity'] === 'ClientIP') {
    asObject((asObject((spec['sessionAffinityConfig'] ??= {}))['clientIP'] ??= {}))['timeoutSeconds'] ??= 10_800;
  }
}

const VOLUME_SETTINGS = new Set(['name']);

/** A volume that names no source is an emptyDir. */
function volume(object: JsonObject): void {
  if (Object.keys(object).every((field) => VOLUME_SETTINGS.has(field))) object['emptyDir'] = {};
}

/** Go's largest int32. */
const NO_LIMIT = 2_147_483_647;

/** What only a Job itself gets, not the template of a CronJob that it comes from. Its labels are in `../strategy/jobs.ts`. */
function job(object: JsonObject): void {
  const spec = asObject(object['spec']);
  spec['backoffLimit'] ??= spec['backoffLimitPerIndex'] === undefined ? 6 : NO_LIMIT;
  spec['completionMode'] ??= 'NonIndexed';
  spec['suspend'] ??= false;
  spec['manualSelector'] ??= false;
  spec['podReplacementPolicy'] ??= spec['podFailurePolicy'] === undefined ? 'TerminatingOrFailed' : 'Failed';
  if (spec['completions'] === undefined && spec['parallelism'] === undefined) spec['completions'] = 1;
  spec['parallelism'] ??= 1;
}

function persistentVolumeClaim(object: JsonObject): void {
  asObject((object['status'] ??= {}))['phase'] ??= 'Pending';
  const spec = asObject(object['spec']);
  if (spec['dataSource'] !== undefined) spec['dataSourceRef'] ??= structuredClone(spec['dataSource']);
}

function persistentVolume(object: JsonObject): void {
  asObject((object['status'] ??= {}))['phase'] ??= 'Pending';
}

function roleRefBinding(object: JsonObject): void {
  const roleRef = asObject(object['roleRef']);
  if (isEmpty(roleRef['apiGroup'])) roleRef['apiGroup'] = 'rbac.authorization.k8s.io';
  for (const subject of asObjects(object['subjects'])) {
    if (isEmpty(subject['apiGroup']) && (subject['kind'] === 'User' || subject['kind'] === 'Group')) {
      subject['apiGroup'] = 'rbac.authorization.k8s.io';
    }
  }
}

function networkPolicySpec(spec: JsonObject): void {
  spec['policyTypes'] ??= spec['egress'] === undefined ? ['Ingress'] : ['Ingress', 'Egress'];
}

function customResourceDefinition(object: JsonObject): void {
  const names = asObject(asObject(object['spec'])['names']);
  if (typeof names['kind'] !== 'string') return;
  if (isEmpty(names['singular'])) names['singular'] = names['kind'].toLowerCase();
  if (isEmpty(names['listKind'])) names['listKind'] = `${names['kind']}List`;
}

/** A limit of containers is their default limit, and that their default request. */
function limitRangeItem(item: JsonObject): void {
  if (item['type'] !== 'Container') return;
  const limits = { ...asObject(item['max']), ...asObject(item['default']) };
  const requests = { ...asObject(item['min']), ...limits, ...asObject(item['defaultRequest']) };
  if (Object.keys(limits).length > 0) item['default'] = limits;
  if (Object.keys(requests).length > 0) item['defaultRequest'] = requests;
}

/** The old selectorless form: what the template is labelled with is what is selected. Only ReplicationController still has it. */
function replicationController(object: JsonObject): void {
  const spec = asObject(object['spec']);
  const labels = asObject(asObject(spec['template'])['metadata'])['labels'];
  if (labels !== undefined) spec['selector'] ??= structuredClone(labels);
  labelLikeTemplate(object);
}

/** Who labels pods but not what makes them means both. Kubernetes does so for the kinds that are older than Deployments. */
export function labelLikeTemplate(object: JsonObject): void {
  const labels = asObject(asObject(asObject(object['spec'])['template'])['metadata'])['labels'];
  const metadata = asObject(object['metadata']);
  if (labels !== undefined && Object.keys(asObject(metadata['labels'])).length === 0)
    metadata['labels'] = structuredClone(labels);
}

/** Growing begins at once and takes the faster of its two ways; shrinking may go all the way. Whatever is said stands, the rest is filled in. */
function scalingBehavior(behavior: JsonObject): void {
  const up = asObject(behavior['scaleUp']);
  up['stabilizationWindowSeconds'] ??= 0;
  up['policies'] ??= [
    { type: 'Pods', value: 4, periodSeconds: 15 },
    { type: 'Percent', value: 100, periodSeconds: 15 },
  ];
  asObject(behavior['scaleDown'])['policies'] ??= [{ type: 'Percent', value: 100, periodSeconds: 15 }];
}

export const derivedDefaults: ReadonlyMap<string, Derive> = new Map<string, Derive>([
  [`${CORE}Container`, container],
  [`${CORE}EphemeralContainer`, container],
  [`${CORE}Probe`, probe],
  [`${CORE}PodSpec`, podSpec],
  [`${CORE}Pod`, pod],
  [`${CORE}ServiceSpec`, serviceSpec],
  [`${CORE}Volume`, volume],
  [`${CORE}PersistentVolumeClaim`, persistentVolumeClaim],
  [`${CORE}PersistentVolume`, persistentVolume],
  [`${CORE}ReplicationController`, replicationController],
  [`${APPS}DeploymentSpec`, (spec) => void (spec['strategy'] ??= {})],
  [`${APPS}DeploymentStrategy`, deploymentStrategy],
  [`${APPS}StatefulSetSpec`, statefulSetSpec],
  [`${APPS}StatefulSetUpdateStrategy`, statefulSetStrategy],
  [`${APPS}DaemonSetSpec`, (spec) => void (spec['updateStrategy'] ??= {})],
  [`${APPS}DaemonSetUpdateStrategy`, daemonSetStrategy],
  [`${CORE}LimitRangeItem`, limitRangeItem],
  ['io.k8s.api.batch.v1.Job', job],
  ['io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerBehavior', scalingBehavior],
  ['io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition', customResourceDefinition],
  ['io.k8s.api.rbac.v1.RoleBinding', roleRefBinding],
  ['io.k8s.api.rbac.v1.ClusterRoleBinding', roleRefBinding],
  ['io.k8s.api.networking.v1.NetworkPolicySpec', networkPolicySpec],
]);
