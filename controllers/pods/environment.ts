/** A container's environment, command and arguments as they are when it starts. Pure; called by container-spec.ts and, to find what is missing, by observe.ts. */
import type { Container as PodContainer, EnvVar, Service } from '../../api-schemas/types/core-v1.ts';
import { fieldValue, resourceValue, type DownwardFacts } from './downward.ts';
import { UnresolvedReferenceError, type References } from './references.ts';

/** In order, later names over earlier ones. Throws UnresolvedReferenceError where something is missing that is not optional. */
export function containerEnvironment(
  container: PodContainer,
  facts: DownwardFacts,
  references: References,
): Map<string, string> {
  const environment = new Map<string, string>();
  for (const service of references.services) addServiceVariables(environment, service);
  for (const source of container.envFrom ?? []) {
    const { configMapRef, secretRef } = source;
    const prefix = source.prefix ?? '';
    if (configMapRef !== undefined) {
      const data = references.configMaps.get(configMapRef.name ?? '')?.data;
      if (references.configMaps.get(configMapRef.name ?? '') === undefined && configMapRef.optional !== true) {
        throw new UnresolvedReferenceError(`configmap "${configMapRef.name ?? ''}" not found`);
      }
      for (const [key, value] of Object.entries(data ?? {})) environment.set(prefix + key, value);
    }
    if (secretRef !== undefined) {
      const secret = references.secrets.get(secretRef.name ?? '');
      if (secret === undefined && secretRef.optional !== true)
        throw new UnresolvedReferenceError(`secret "${secretRef.name ?? ''}" not found`);
      for (const [key, value] of Object.entries(secret?.data ?? {})) environment.set(prefix + key, decode(value));
    }
  }
  for (const variable of container.env ?? []) {
    const value = variableValue(variable, { container, facts, references, environment });
    if (value !== undefined) environment.set(variable.name, value);
  }
  return environment;
}

function variableValue(
  variable: EnvVar,
  context: {
    container: PodContainer;
    facts: DownwardFacts;
    references: References;
    environment: ReadonlyMap<string, string>;
  },
): string | undefined {
  const { facts, references } = context;
  const from = variable.valueFrom;
  if (from === undefined) return expand(variable.value ?? '', context.environment);
  const { pod } = facts;
  if (from.fieldRef !== undefined) return fieldValue(from.fieldRef.fieldPath, facts);
  if (from.resourceFieldRef !== undefined) return resourceValue(from.resourceFieldRef, facts, context.container);
  if (from.configMapKeyRef !== undefined) {
    const { name = '', key, optional } = from.configMapKeyRef;
    const map = references.configMaps.get(name);
    const value = map?.data?.[key];
    if (value !== undefined || optional === true) return value;
    throw new UnresolvedReferenceError(
      map === undefined
        ? `configmap "${name}" not found`
        : `couldn't find key ${key} in ConfigMap ${pod.metadata.namespace ?? ''}/${name}`,
    );
  }
  if (from.secretKeyRef !== undefined) {
    const { name = '', key, optional } = from.secretKeyRef;
    const secret = references.secrets.get(name);
    const value = secret?.data?.[key];
    if (value !== undefined) return decode(value);
    if (optional === true) return undefined;
    throw new UnresolvedReferenceError(
      secret === undefined
        ? `secret "${name}" not found`
        : `couldn't find key ${key} in Secret ${pod.metadata.namespace ?? ''}/${name}`,
    );
  }
  return '';
}

function decode(base64: string): string {
  return Buffer.from(base64, 'base64').toString('utf8');
}

/** `$(NAME)` becomes the variable where it is known and stays where it is not; `$$` is one `$`. */
export function expand(text: string, environment: ReadonlyMap<string, string>): string {
  return text.replace(/\$\$|\$\(([^()]*)\)/g, (whole, name: string | undefined) => {
    if (name === undefined) return '$';
    return environment.get(name) ?? whole;
  });
}

/** Services that have an address show themselves to the pods of their namespace, as Docker links once did. */
function addServiceVariables(environment: Map<string, string>, service: Service): void {
  const { clusterIP, ports = [] } = service.spec ?? {};
  const first = ports[0];
  if (clusterIP === undefined || clusterIP === '' || clusterIP === 'None' || first === undefined) return;
  const prefix = service.metadata.name.toUpperCase().replaceAll('-', '_');
  environment.set(`${prefix}_SERVICE_HOST`, clusterIP);
  environment.set(`${prefix}_SERVICE_PORT`, String(first.port));
  for (const port of ports) {
    if (port.name !== undefined && port.name !== '')
      environment.set(`${prefix}_SERVICE_PORT_${port.name.toUpperCase().replaceAll('-', '_')}`, String(port.port));
  }
  const url = (port: { port: number; protocol?: string }): string =>
    `${(port.protocol ?? 'TCP').toLowerCase()}://${clusterIP}:${port.port}`;
  environment.set(`${prefix}_PORT`, url(first));
  for (const port of ports) {
    const protocol = port.protocol ?? 'TCP';
    const base = `${prefix}_PORT_${port.port}_${protocol}`;
    environment.set(base, url(port));
    environment.set(`${base}_PROTO`, protocol.toLowerCase());
    environment.set(`${base}_PORT`, String(port.port));
    environment.set(`${base}_ADDR`, clusterIP);
  }
}
