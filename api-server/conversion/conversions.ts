/**
 * Kinds that are served in two shapes and stored in one. A request in the other shape is turned at the edges: what it brings, as soon as it is decoded, and what it is answered with, at last; everything between knows the stored shape
 * alone, so that both are one object with one history. Asked by `server.ts`, `body.ts`, `respond.ts` and the patch verb.
 */
import type { Registry } from '../../api-schemas/registry.ts';
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import type { Fault } from '../admission/fault.ts';
import { autoscalingV1 } from './autoscaling.ts';
import { eventsV1 } from './events.ts';

type Kind = Pick<ResourceDefinition, 'group' | 'version' | 'kind'>;

export interface Conversion {
  /** What is stored. */
  readonly stored: { readonly group: string; readonly version: string; readonly resource: string };
  toStored(object: ApiObject): ApiObject;
  fromStored(object: ApiObject): ApiObject;
  /** Fields that selectors name otherwise, by the name that they are asked for with. */
  readonly fields?: ReadonlyMap<string, string>;
  /** What a new object of this shape must have beside what the stored one must. */
  newFaults?(object: ApiObject): Fault[];
  /** What may not change for who speaks this shape. Both objects are in the stored one. */
  changeFaults?(object: ApiObject, old: ApiObject): Fault[];
}

const conversions: ReadonlyMap<string, Conversion> = new Map([
  ['autoscaling/v1/HorizontalPodAutoscaler', autoscalingV1],
  ['events.k8s.io/v1/Event', eventsV1],
]);

/** Undefined for what is stored as it is. */
export const conversionOf = ({ group, version, kind }: Kind): Conversion | undefined =>
  conversions.get(`${group}/${version}/${kind}`);

/** The definition of what is stored for what is asked for. */
export function storedDefinition(asked: ResourceDefinition, registry: Registry): ResourceDefinition {
  const conversion = conversionOf(asked);
  if (!conversion) return asked;
  const { group, version, resource } = conversion.stored;
  const stored = registry.byResource(group, version, resource);
  if (!stored) throw new Error(`${group}/${version} ${resource} has no schema`);
  return stored;
}

/** The query with a field selector that speaks of the stored object. */
export function storedQuery(query: URLSearchParams, { fields }: Conversion): URLSearchParams {
  const selector = query.get('fieldSelector');
  if (!fields || !selector) return query;
  const turned = new URLSearchParams(query);
  const rename = (_: string, before: string, name: string, operator: string) =>
    `${before}${fields.get(name) ?? name}${operator}`;
  turned.set('fieldSelector', selector.replace(/(^|,)([^,=!]+)(==?|!=)/g, rename));
  return turned;
}
