/** What an ephemeral container may not have, and whom it may look at. Called by `pod-spec.ts`. Follows `validateEphemeralContainers` in `pkg/apis/core/validation`. */
import { forbidden, notFound, type Fault } from '../fault.ts';
import { below, objectsAt, textAt, type JsonObject } from './rule.ts';

/** Probes are refused with those of other containers. */
const NOT_FOR_THEM = ['ports', 'lifecycle', 'resources', 'resizePolicy'];

export function ephemeralContainersFaults(spec: JsonObject, path: string): Fault[] {
  const names = new Set(
    ['containers', 'initContainers'].flatMap((field) => objectsAt(spec[field]).map(({ name }) => textAt(name))),
  );
  return objectsAt(spec['ephemeralContainers']).flatMap((container, index) => {
    const at = below(path, 'ephemeralContainers', index);
    const faults = NOT_FOR_THEM.filter((field) => isSet(container[field])).map((field) =>
      forbidden(below(at, field), 'cannot be set for an Ephemeral Container'),
    );
    const target = textAt(container['targetContainerName']);
    if (target !== '' && !names.has(target)) faults.push(notFound(below(at, 'targetContainerName'), target));
    for (const [place, mount] of objectsAt(container['volumeMounts']).entries())
      for (const field of ['subPath', 'subPathExpr'])
        if (textAt(mount[field]) !== '')
          faults.push(
            forbidden(below(below(at, 'volumeMounts', place), field), 'cannot be set for an Ephemeral Container'),
          );
    return faults;
  });
}

const isSet = (value: unknown): boolean =>
  Array.isArray(value)
    ? value.length > 0
    : typeof value === 'object' && value !== null
      ? Object.keys(value).length > 0
      : value !== undefined;
