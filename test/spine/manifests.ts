/** Manifests of the spine's tests, with the fields that differ given and the rest as a user would leave it. */
import { IMAGE, type Json } from './stage.ts';

export interface PodOptions {
  readonly labels?: Readonly<Record<string, string>>;
  /** Of the container `main`. */
  readonly script?: string;
  readonly container?: Json;
  readonly spec?: Json;
}

/** Answers on 8080 with its host name, or what it is told to say; ends at once when it is told to. */
export const serve = (text = '$(hostname)'): string =>
  `mkdir -p /tmp/www; echo "${text}" > /tmp/www/index.html; trap 'exit 0' TERM; httpd -f -p 8080 -h /tmp/www & wait`;

export const idle = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";

export function podSpec({ script = idle, container, spec }: PodOptions): Json {
  return {
    terminationGracePeriodSeconds: 2,
    ...spec,
    containers: [
      { name: 'main', image: IMAGE, imagePullPolicy: 'IfNotPresent', command: ['sh', '-c', script], ...container },
      ...(spec?.containers ?? []),
    ],
  };
}

export function pod(name: string, options: PodOptions = {}): Json {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: name, ...options.labels } },
    spec: podSpec(options),
  };
}

export function deployment(name: string, options: PodOptions & { replicas?: number; rollout?: Json } = {}): Json {
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name },
    spec: {
      replicas: options.replicas ?? 2,
      selector: { matchLabels: { app: name } },
      template: { metadata: { labels: { app: name, ...options.labels } }, spec: podSpec(options) },
      ...options.rollout,
    },
  };
}

export function service(name: string, spec: Json = {}): Json {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name },
    spec: { selector: { app: name }, ports: [{ name: 'http', port: 80, targetPort: 8080 }], ...spec },
  };
}

export function configMap(name: string, data: Readonly<Record<string, string>>): Json {
  return { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, data };
}

export function claim(name: string, storageClassName?: string): Json {
  return {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name },
    spec: {
      accessModes: ['ReadWriteOnce'],
      resources: { requests: { storage: '1Mi' } },
      ...(storageClassName === undefined ? {} : { storageClassName }),
    },
  };
}

export const readiness = { httpGet: { path: '/', port: 8080 }, periodSeconds: 1 };
