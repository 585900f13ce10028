/** The class that is marked as the default, of those kinds that have one: StorageClasses for claims, IngressClasses for Ingresses. Of several the newest. Called by their strategies. */
import { decode } from '../store/entry.ts';
import type { Call } from '../call.ts';

export interface ClassKind {
  readonly group: string;
  readonly resource: string;
  /** The annotation that marks the default. */
  readonly mark: string;
}

/** Its name; undefined when none is marked. */
export function defaultClass({ services }: Call, { group, resource, mark }: ClassKind): string | undefined {
  const definition = services.registry.byResource(group, 'v1', resource);
  if (!definition) return undefined;
  return services.store
    .cache(definition)
    .list()
    .map(decode)
    .filter(({ metadata }) => metadata.annotations?.[mark] === 'true')
    .sort((a, b) => (b.metadata.creationTimestamp ?? '').localeCompare(a.metadata.creationTimestamp ?? ''))[0]?.metadata
    .name;
}
