/**
 * The controller of a kind of our own, Website: each becomes a ConfigMap with its page and a Deployment that serves it.
 *
 *     kubectl apply -f examples/custom-kind/definition.yaml
 *     reckon run dist/examples/custom-kind/index.js
 *     kubectl apply -f examples/custom-kind/website.yaml
 *
 * docs/writing-a-controller.md says more.
 */
import {
  controllerReference,
  deterministicSuffix,
  watchOwned,
  type ApiAction,
  type ApiObject,
  type AppsV1,
  type Controller,
  type CoreV1,
  type Plan,
} from '../../sdk/index.ts';

const GROUP = 'example.com';
const WEBSITES = { group: GROUP, version: 'v1', resource: 'websites' };
const CONFIG_MAPS = { group: '', version: 'v1', resource: 'configmaps' };
const DEPLOYMENTS = { group: 'apps', version: 'v1', resource: 'deployments' };
const PAGE = 'index.html';

/** As definition.yaml says. */
export interface Website extends ApiObject {
  spec: { html: string; replicas: number };
  status?: { observedGeneration?: number; replicas?: number; selector?: string };
}

export interface Observed {
  readonly page: CoreV1.ConfigMap | undefined;
  readonly server: AppsV1.Deployment | undefined;
}

const WEBSITE = { resource: WEBSITES, kind: 'Website' };

export const controller: Controller<Website, Observed> = {
  name: 'websites',
  resource: WEBSITES,
  watches: [watchOwned(CONFIG_MAPS, WEBSITE), watchOwned(DEPLOYMENTS, WEBSITE)],
  observe({ namespace, name }, world) {
    const desired = world.get<Website>(WEBSITES, namespace, name);
    if (!desired) return undefined;
    return {
      desired,
      observed: {
        page: world.get<CoreV1.ConfigMap>(CONFIG_MAPS, namespace, nameOf(desired)),
        server: world.get<AppsV1.Deployment>(DEPLOYMENTS, namespace, nameOf(desired)),
      },
    };
  },
  reconcile,
};

const nameOf = ({ metadata }: Website): string => `website-${metadata.name}`;

/** Pure: the same look gives the same plan. What a Website owned goes with it, by the garbage collector. */
export function reconcile(website: Website, { page, server }: Observed): Plan<ApiAction> {
  if (website.metadata.deletionTimestamp) return { actions: [] };
  const { html, replicas } = website.spec;
  const { namespace = '' } = website.metadata;
  const about = `Website ${website.metadata.name}`;
  const [name, hash] = [nameOf(website), deterministicSuffix([html], 10)];
  const actions: ApiAction[] = [];
  if (!page) {
    const object = { ...owned(website, 'v1', 'ConfigMap'), data: { [PAGE]: html } };
    actions.push({ verb: 'create', resource: CONFIG_MAPS, object, because: `${about} has no page yet` });
  } else if (page.data?.[PAGE] !== html) {
    const patch = { metadata: { uid: page.metadata.uid }, data: { [PAGE]: html } };
    actions.push({
      verb: 'patch',
      resource: CONFIG_MAPS,
      namespace,
      name,
      patch,
      because: `${about} says something else`,
    });
  }
  if (!server) {
    const object = { ...owned(website, 'apps/v1', 'Deployment'), spec: serving(name, replicas, hash) };
    actions.push({ verb: 'create', resource: DEPLOYMENTS, object, because: `${about} has no servers yet` });
  } else if (server.spec.replicas !== replicas || server.spec.template.metadata?.annotations?.['page'] !== hash) {
    const patch = {
      metadata: { uid: server.metadata.uid },
      spec: { replicas, template: { metadata: { annotations: { page: hash } } } },
    };
    actions.push({
      verb: 'patch',
      resource: DEPLOYMENTS,
      namespace,
      name,
      patch,
      because: `${about} is served otherwise`,
    });
  }
  const status = {
    observedGeneration: website.metadata.generation ?? 1,
    replicas: server?.status?.readyReplicas ?? 0,
    selector: `website=${name}`,
  };
  return { actions, status };
}

const owned = (website: Website, apiVersion: string, kind: string): ApiObject => ({
  apiVersion,
  kind,
  metadata: {
    name: nameOf(website),
    ...(website.metadata.namespace && { namespace: website.metadata.namespace }),
    ownerReferences: [controllerReference(website)],
  },
});

/** Pods that serve the page, and that are made anew when it changes. */
const serving = (name: string, replicas: number, hash: string) => ({
  replicas,
  selector: { matchLabels: { website: name } },
  template: {
    metadata: { labels: { website: name }, annotations: { page: hash } },
    spec: {
      containers: [
        {
          name: 'web',
          image: 'reckon-hello:1',
          imagePullPolicy: 'IfNotPresent',
          ports: [{ name: 'http', containerPort: 8080 }],
          volumeMounts: [{ name: 'page', mountPath: '/www' }],
        },
      ],
      volumes: [{ name: 'page', configMap: { name } }],
    },
  },
});
