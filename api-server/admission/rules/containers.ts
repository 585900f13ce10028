/**
 * Rules for the containers of a pod: names, images, ports, environment, mounts, probes, resources. Called by `pod-spec.ts`, which knows the volumes and
 * the neighbours. Follows `validateContainers` and its kin in `pkg/apis/core/validation`.
 */
import { duplicate, forbidden, invalid, notFound, notSupported, required, type Fault } from '../fault.ts';
import { configKey, dns1123Label, envName, portName, portNumber, qualifiedName } from '../names.ts';
import { compareQuantities, parseQuantity } from '../../../api-schemas/quantity.ts';
import { below, objectAt, objectsAt, stringsAt, textAt, type JsonObject, type Visit } from './rule.ts';

export type ContainerRole = 'container' | 'init' | 'ephemeral';

/** What a container is judged against. */
export interface PodContext {
  readonly volumes: ReadonlyMap<string, JsonObject>;
  readonly restartPolicy: string;
  readonly hostNetwork: boolean;
}

export function containerFaults(
  container: JsonObject,
  path: string,
  role: ContainerRole,
  context: PodContext,
): Fault[] {
  const name = textAt(container['name']);
  const sidecar = role === 'init' && container['restartPolicy'] === 'Always';
  const faults: Fault[] = [];
  if (name === '') faults.push(required(below(path, 'name')));
  else faults.push(...dns1123Label(name).map((says) => invalid(below(path, 'name'), name, says)));
  const image = textAt(container['image']);
  if (image === '') faults.push(required(below(path, 'image')));
  else if (image !== image.trim())
    faults.push(invalid(below(path, 'image'), image, 'must not have leading or trailing whitespace'));
  if (container['restartPolicy'] !== undefined && container['restartPolicy'] !== '') {
    if (role !== 'init') faults.push(forbidden(below(path, 'restartPolicy'), 'may not be set for non-init containers'));
    else if (!sidecar) faults.push(notSupported(below(path, 'restartPolicy'), container['restartPolicy'], ['Always']));
  }
  faults.push(
    ...portFaults(container, path, context),
    ...envFaults(container, path),
    ...envFromFaults(container, path),
  );
  faults.push(
    ...mountFaults(container, path, context),
    ...resourceFaults(objectAt(container['resources']), below(path, 'resources')),
  );
  for (const probe of ['livenessProbe', 'readinessProbe', 'startupProbe']) {
    const value = container[probe];
    if (value === undefined) continue;
    const at = below(path, probe);
    if (role === 'ephemeral') faults.push(forbidden(at, 'cannot be set for an Ephemeral Container'));
    else if (role === 'init' && !sidecar)
      faults.push(forbidden(at, 'may not be set for init containers without restartPolicy=Always'));
    else faults.push(...probeFaults(objectAt(value), at, probe));
  }
  const lifecycle = objectAt(container['lifecycle']);
  if (role === 'init' && !sidecar && container['lifecycle'] !== undefined) {
    faults.push(forbidden(below(path, 'lifecycle'), 'may not be set for init containers without restartPolicy=Always'));
  } else {
    for (const hook of ['postStart', 'preStop'])
      if (lifecycle[hook] !== undefined)
        faults.push(...handlerFaults(objectAt(lifecycle[hook]), below(below(path, 'lifecycle'), hook)));
  }
  return faults;
}

function portFaults(container: JsonObject, path: string, context: PodContext): Fault[] {
  const faults: Fault[] = [];
  const names = new Set<string>();
  for (const [index, port] of objectsAt(container['ports']).entries()) {
    const at = below(path, 'ports', index);
    const name = textAt(port['name']);
    if (name !== '') {
      faults.push(...portName(name).map((says) => invalid(below(at, 'name'), name, says)));
      if (names.has(name)) faults.push(duplicate(below(at, 'name'), name));
      names.add(name);
    }
    const number = port['containerPort'];
    if (number === undefined || number === 0) faults.push(required(below(at, 'containerPort')));
    else faults.push(...portNumber(number).map((says) => invalid(below(at, 'containerPort'), number, says)));
    const hostPort = port['hostPort'];
    if (hostPort !== undefined && hostPort !== 0) {
      faults.push(...portNumber(hostPort).map((says) => invalid(below(at, 'hostPort'), hostPort, says)));
      if (context.hostNetwork && hostPort !== number)
        faults.push(invalid(below(at, 'hostPort'), hostPort, 'must match `containerPort` when `hostNetwork` is true'));
    }
    if (port['protocol'] !== undefined && !['TCP', 'UDP', 'SCTP'].includes(textAt(port['protocol']))) {
      faults.push(notSupported(below(at, 'protocol'), port['protocol'], ['SCTP', 'TCP', 'UDP']));
    }
  }
  return faults;
}

const VALUE_SOURCES = ['fieldRef', 'resourceFieldRef', 'configMapKeyRef', 'secretKeyRef'];
const FIELD_PATHS = [
  'metadata.name',
  'metadata.namespace',
  'metadata.uid',
  'spec.nodeName',
  'spec.serviceAccountName',
  'status.hostIP',
  'status.hostIPs',
  'status.podIP',
  'status.podIPs',
];

function envFaults(container: JsonObject, path: string): Fault[] {
  const faults: Fault[] = [];
  for (const [index, entry] of objectsAt(container['env']).entries()) {
    const at = below(path, 'env', index);
    const name = textAt(entry['name']);
    if (name === '') faults.push(required(below(at, 'name')));
    else faults.push(...envName(name).map((says) => invalid(below(at, 'name'), name, says)));
    if (entry['valueFrom'] === undefined) continue;
    const source = objectAt(entry['valueFrom']);
    const from = below(at, 'valueFrom');
    const given = VALUE_SOURCES.filter((each) => source[each] !== undefined);
    if (textAt(entry['value']) !== '') faults.push(invalid(from, '', 'may not be specified when `value` is not empty'));
    else if (given.length === 0)
      faults.push(
        invalid(
          from,
          '',
          `must specify one of: \`fieldRef\`, \`resourceFieldRef\`, \`configMapKeyRef\` or \`secretKeyRef\``,
        ),
      );
    else if (given.length > 1) faults.push(invalid(from, '', 'may not have more than one field specified at a time'));
    for (const kind of ['configMapKeyRef', 'secretKeyRef'])
      if (source[kind] !== undefined) faults.push(...keyReferenceFaults(objectAt(source[kind]), below(from, kind)));
    if (source['fieldRef'] !== undefined)
      faults.push(...fieldReferenceFaults(objectAt(source['fieldRef']), below(from, 'fieldRef')));
  }
  return faults;
}

function keyReferenceFaults(reference: JsonObject, path: string): Fault[] {
  const key = textAt(reference['key']);
  const faults = textAt(reference['name']) === '' ? [required(below(path, 'name'))] : [];
  if (key === '') return [...faults, required(below(path, 'key'))];
  return [...faults, ...configKey(key).map((says) => invalid(below(path, 'key'), key, says))];
}

function fieldReferenceFaults(reference: JsonObject, path: string): Fault[] {
  const fieldPath = textAt(reference['fieldPath']);
  if (fieldPath === '') return [required(below(path, 'fieldPath'))];
  const key = /^metadata\.(?:labels|annotations)\['(.*)'\]$/.exec(fieldPath)?.[1];
  if (key !== undefined)
    return qualifiedName(key.toLowerCase()).map((says) => invalid(below(path, 'fieldPath'), fieldPath, says));
  return FIELD_PATHS.includes(fieldPath) ? [] : [notSupported(below(path, 'fieldPath'), fieldPath, FIELD_PATHS)];
}

function envFromFaults(container: JsonObject, path: string): Fault[] {
  return objectsAt(container['envFrom']).flatMap((entry, index) => {
    const at = below(path, 'envFrom', index);
    const given = ['configMapRef', 'secretRef'].filter((each) => entry[each] !== undefined);
    if (given.length === 0) return [invalid(at, '', 'must specify one of: `configMapRef` or `secretRef`')];
    if (given.length > 1) return [invalid(at, '', 'may not have more than one field specified at a time')];
    return given.flatMap((each) =>
      textAt(objectAt(entry[each])['name']) === '' ? [required(below(below(at, each), 'name'))] : [],
    );
  });
}

function mountFaults(container: JsonObject, path: string, context: PodContext): Fault[] {
  const faults: Fault[] = [];
  const points = new Set<string>();
  for (const [index, mount] of objectsAt(container['volumeMounts']).entries()) {
    const at = below(path, 'volumeMounts', index);
    const name = textAt(mount['name']);
    if (name === '') faults.push(required(below(at, 'name')));
    else if (!context.volumes.has(name)) faults.push(notFound(below(at, 'name'), name));
    const point = textAt(mount['mountPath']);
    if (point === '') faults.push(required(below(at, 'mountPath')));
    else if (points.has(point)) faults.push(invalid(below(at, 'mountPath'), point, 'must be unique'));
    else if (point.includes(':')) faults.push(invalid(below(at, 'mountPath'), point, "must not contain ':'"));
    points.add(point);
    for (const field of ['subPath', 'subPathExpr']) {
      const sub = textAt(mount[field]);
      if (sub.startsWith('/')) faults.push(invalid(below(at, field), sub, 'must be a relative path'));
      if (sub.split('/').includes('..')) faults.push(invalid(below(at, field), sub, "must not contain '..'"));
    }
    if (textAt(mount['subPath']) !== '' && textAt(mount['subPathExpr']) !== '') {
      faults.push(
        invalid(below(at, 'subPathExpr'), mount['subPathExpr'], 'subPathExpr and subPath are mutually exclusive'),
      );
    }
  }
  return faults;
}

const HANDLERS = ['exec', 'httpGet', 'tcpSocket', 'grpc'];

export function probeFaults(probe: JsonObject, path: string, kind: string): Fault[] {
  const faults = handlerFaults(probe, path);
  for (const field of [
    'initialDelaySeconds',
    'timeoutSeconds',
    'periodSeconds',
    'successThreshold',
    'failureThreshold',
  ]) {
    const value = probe[field];
    if (typeof value === 'number' && value < 0)
      faults.push(invalid(below(path, field), value, 'must be greater than or equal to 0'));
  }
  const threshold = probe['successThreshold'];
  if (kind !== 'readinessProbe' && typeof threshold === 'number' && threshold !== 1)
    faults.push(invalid(below(path, 'successThreshold'), threshold, 'must be 1'));
  const grace = probe['terminationGracePeriodSeconds'];
  if (grace !== undefined) {
    const at = below(path, 'terminationGracePeriodSeconds');
    if (kind === 'readinessProbe') faults.push(invalid(at, grace, 'must not be set for readinessProbes'));
    else if (typeof grace === 'number' && grace <= 0) faults.push(invalid(at, grace, 'must be greater than 0'));
  }
  return faults;
}

function handlerFaults(handler: JsonObject, path: string): Fault[] {
  const given = [...HANDLERS, 'sleep'].filter((each) => handler[each] !== undefined);
  if (given.length === 0) return [required(path, 'must specify a handler type')];
  const faults = given.slice(1).map((each) => forbidden(below(path, each), 'may not specify more than 1 handler type'));
  if (handler['exec'] !== undefined) {
    const command = objectAt(handler['exec'])['command'];
    if (!Array.isArray(command) || command.length === 0) faults.push(required(below(below(path, 'exec'), 'command')));
  }
  for (const each of ['httpGet', 'tcpSocket', 'grpc']) {
    if (handler[each] === undefined) continue;
    const { port } = objectAt(handler[each]);
    const at = below(below(path, each), 'port');
    if (typeof port === 'string') faults.push(...portName(port).map((says) => invalid(at, port, says)));
    else if (port === undefined) faults.push(required(at));
    else faults.push(...portNumber(port).map((says) => invalid(at, port, says)));
  }
  return faults;
}

/** Resources that may not be asked for in fractions, and not more of than they are limited to. */
export function resourceFaults(resources: JsonObject, path: string): Fault[] {
  const limits = stringsAt(resources['limits']);
  const requests = stringsAt(resources['requests']);
  const faults: Fault[] = [];
  for (const [field, amounts] of [
    ['limits', limits],
    ['requests', requests],
  ] as const) {
    for (const [resource, amount] of Object.entries(amounts)) {
      const at = `${below(path, field)}[${resource}]`;
      faults.push(...qualifiedName(resource).map((says) => invalid(at, resource, says)));
      const quantity = parseQuantity(amount);
      if (quantity && quantity.nanos < 0n) faults.push(invalid(at, amount, 'must be greater than or equal to 0'));
      else if (!resource.includes('/') && !isStandardResource(resource))
        faults.push(invalid(at, resource, 'must be a standard resource for containers'));
    }
  }
  for (const [resource, request] of Object.entries(requests)) {
    const limit = Object.hasOwn(limits, resource) ? limits[resource] : undefined;
    if (limit === undefined || (compareQuantities(request, limit) ?? 0) <= 0) continue;
    faults.push(
      invalid(below(path, 'requests'), request, `must be less than or equal to ${resource} limit of ${limit}`),
    );
  }
  return faults;
}

const isStandardResource = (name: string): boolean =>
  ['cpu', 'memory', 'ephemeral-storage', 'storage'].includes(name) || name.startsWith('hugepages-');

/** For `ResourceRequirements` where they stand outside a container. */
export const resourceRequirements = ({ value, path, report }: Visit): void => report(...resourceFaults(value, path));
