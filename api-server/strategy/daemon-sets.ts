/**
 * A DaemonSet counts the changes of its template in an annotation, for clients of the API that had a field for it. Nobody else may set it once the object stands.
 * Follows `pkg/registry/apps/daemonset/strategy.go`.
 */
import { isDeepStrictEqual } from 'node:util';
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Kind } from './kinds.ts';

const TEMPLATE_GENERATION = 'deprecated.daemonset.template.generation';

const counted = ({ metadata }: ApiObject): number => {
  const count = Number(metadata.annotations?.[TEMPLATE_GENERATION]);
  return Number.isSafeInteger(count) && count >= 1 ? count : 1;
};

const templateOf = (object: ApiObject): unknown => (object['spec'] as { template?: unknown } | undefined)?.template;

function count({ metadata }: ApiObject, generation: number): void {
  metadata.annotations = { ...metadata.annotations, [TEMPLATE_GENERATION]: String(generation) };
}

export const daemonSets: Kind = {
  prepareCreate: (object) => count(object, counted(object)),
  prepareUpdate(object, old) {
    const isSame = isDeepStrictEqual(templateOf(object), templateOf(old));
    count(object, counted(old) + (isSame ? 0 : 1));
  },
};
