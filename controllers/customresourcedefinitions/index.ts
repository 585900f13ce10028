/**
 * CustomResourceDefinitions: each is given its names and established, and each that is deleted takes the objects of its kind along.
 */
import {
  conditionHolds,
  CUSTOM_RESOURCE_DEFINITIONS,
  EVERY_RESOURCE,
  keyIn,
  resourceOf,
  timestamp,
  type Controller,
  type ObjectKey,
  type World,
} from '../../sdk/index.ts';
import { reconcile, type Content, type Definition, type Observed } from './reconcile.ts';

const keyOf = (name: string): ObjectKey => keyIn(CUSTOM_RESOURCE_DEFINITIONS, '', name);

const definitionsOf = (group: string, world: World): readonly Definition[] =>
  world.list<Definition>(CUSTOM_RESOURCE_DEFINITIONS).filter(({ spec }) => spec.group === group);

/** Names are given in the order in which they were asked for, so that two looks at once never give the same to two. */
function goesBefore(other: Definition, definition: Definition): boolean {
  if (other.status?.conditions !== undefined) return true;
  const [a, b] = [other.metadata, definition.metadata];
  const [left, right] = [a.creationTimestamp ?? '', b.creationTimestamp ?? ''];
  return left === right ? a.name < b.name : left < right;
}

export const controller: Controller<Definition, Observed> = {
  name: 'customresourcedefinitions',
  resource: CUSTOM_RESOURCE_DEFINITIONS,
  // They come in bundles, and names are given in the order of creation, however many are looked at at once.
  concurrency: 16,
  watches: [
    {
      // Names that are let go are there for others.
      resource: CUSTOM_RESOURCE_DEFINITIONS,
      keysFor: (object, previous, world) => {
        const { spec, metadata } = (previous ?? object) as Definition;
        return definitionsOf(spec.group, world)
          .filter(
            (other) =>
              other.metadata.name !== metadata.name && !conditionHolds(other.status?.conditions, 'NamesAccepted'),
          )
          .map((other) => keyOf(other.metadata.name));
      },
    },
    {
      resource: EVERY_RESOURCE,
      keysFor: (object, _previous, world) => {
        const { group, resource } = world.keyOf(object);
        const definition = world.get(CUSTOM_RESOURCE_DEFINITIONS, '', `${resource}.${group}`);
        return definition?.metadata.deletionTimestamp === undefined ? [] : [keyOf(definition.metadata.name)];
      },
    },
  ],
  observe(key, world, nowMs) {
    const definition = world.get<Definition>(CUSTOM_RESOURCE_DEFINITIONS, '', key.name);
    if (!definition) return undefined;
    const { metadata } = definition;
    return {
      desired: definition,
      observed: {
        others: definitionsOf(definition.spec.group, world).filter(
          (other) => other.metadata.uid !== metadata.uid && goesBefore(other, definition),
        ),
        contents: metadata.deletionTimestamp === undefined ? [] : contentsOf(definition, world),
        now: timestamp(nowMs),
      },
    };
  },
  reconcile,
};

function contentsOf({ spec }: Definition, world: World): Content[] {
  return world.list({ group: spec.group, resource: spec.names.plural }).map((object) => {
    const key = world.keyOf(object);
    return { key, object, resource: resourceOf(key, object, world) };
  });
}
