/**
 * What every namespace has for its pods: a ServiceAccount called `default` and a ConfigMap with the certificate of the cluster's authority; made again when they are deleted. And Secrets that hold a token of an account.
 */
import type { ConfigMap, Namespace } from '../../api-schemas/types/core-v1.ts';
import { keyIn, runControllers, type ApiObject, type Controller, type Logger } from '../../sdk/index.ts';
import { tokenSecrets } from './token-secrets.ts';
import { CONFIG_MAPS, reconcile, ROOT_AUTHORITY, SERVICE_ACCOUNTS, type Observed } from './reconcile.ts';

const NAMESPACES = { group: '', version: 'v1', resource: 'namespaces' };

/** What `reckon run serviceaccounts` hands over. */
export interface ServiceAccountsContext {
  readonly kubeconfig: string;
  readonly natsUrl: string;
  /** PEM. */
  readonly tls: { readonly ca: string };
  readonly logger: Logger;
}

export function makeController(authority: string | undefined): Controller<Namespace & ApiObject, Observed> {
  return {
    name: 'serviceaccounts',
    resource: NAMESPACES,
    watches: [
      { resource: SERVICE_ACCOUNTS, keysFor: ({ metadata }) => [keyIn(NAMESPACES, '', metadata.namespace ?? '')] },
      {
        resource: CONFIG_MAPS,
        keysFor: ({ metadata }) =>
          metadata.name === ROOT_AUTHORITY ? [keyIn(NAMESPACES, '', metadata.namespace ?? '')] : [],
      },
    ],
    observe(key, world) {
      const namespace = world.get<Namespace & ApiObject>(NAMESPACES, '', key.name);
      if (!namespace) return undefined;
      return {
        desired: namespace,
        observed: {
          hasDefault: world.get(SERVICE_ACCOUNTS, key.name, 'default') !== undefined,
          published: world.get<ConfigMap & ApiObject>(CONFIG_MAPS, key.name, ROOT_AUTHORITY),
          authority,
        },
      };
    },
    reconcile,
  };
}

export function start({
  kubeconfig,
  natsUrl,
  tls,
  logger,
}: ServiceAccountsContext): Promise<{ stop(): Promise<void> }> {
  return runControllers([makeController(tls.ca), tokenSecrets(tls.ca)], { kubeconfig, natsUrl, logger });
}
