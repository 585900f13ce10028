/**
 * Which names a CustomResourceDefinition may have: those that no other of its group was given before. Pure; called by `reconcile.ts`.
 * https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
 */
import type {
  CustomResourceDefinition,
  CustomResourceDefinitionNames,
} from '../../api-schemas/types/apiextensions-v1.ts';

export interface Naming {
  readonly acceptedNames: CustomResourceDefinitionNames;
  /** Undefined where nothing is in the way. */
  readonly conflict: { readonly reason: string; readonly message: string } | undefined;
}

/** Resources and kinds are told apart, as they are in URLs and in manifests. */
interface Taken {
  readonly resources: ReadonlySet<string>;
  readonly kinds: ReadonlySet<string>;
}

const resourceNames = ({ plural, singular, shortNames = [] }: CustomResourceDefinitionNames): string[] =>
  [plural, singular ?? '', ...shortNames].filter(Boolean);
const kindNames = ({ kind, listKind }: CustomResourceDefinitionNames): string[] =>
  [kind, listKind ?? ''].filter(Boolean);

/** `others` are the definitions of the same group that were there before, or have names already. */
export function naming(
  { spec, status }: CustomResourceDefinition,
  others: readonly CustomResourceDefinition[],
): Naming {
  const wanted = spec.names;
  const taken = takenBy(others);
  const accepted: Partial<CustomResourceDefinitionNames> = { ...status.acceptedNames };
  const faults: { reason: string; message: string }[] = [];
  const check = (
    reason: string,
    { names, among, accept }: { names: readonly string[]; among: ReadonlySet<string>; accept: () => void },
  ): void => {
    const inUse = names.filter((name) => among.has(name));
    if (inUse.length === 0) accept();
    else faults.push({ reason, message: inUse.map((name) => `${JSON.stringify(name)} is already in use`).join(', ') });
  };
  check('PluralConflict', {
    names: [wanted.plural],
    among: taken.resources,
    accept: () => (accepted.plural = wanted.plural),
  });
  check('SingularConflict', {
    names: [wanted.singular ?? ''],
    among: taken.resources,
    accept: () => setOrDelete(accepted, 'singular', wanted.singular),
  });
  check('ShortNamesConflict', {
    names: wanted.shortNames ?? [],
    among: taken.resources,
    accept: () => setOrDelete(accepted, 'shortNames', wanted.shortNames),
  });
  check('KindConflict', { names: [wanted.kind], among: taken.kinds, accept: () => (accepted.kind = wanted.kind) });
  check('ListKindConflict', {
    names: [wanted.listKind ?? ''],
    among: taken.kinds,
    accept: () => setOrDelete(accepted, 'listKind', wanted.listKind),
  });
  setOrDelete(accepted, 'categories', wanted.categories);
  const [first] = faults;
  return {
    acceptedNames: accepted as CustomResourceDefinitionNames,
    conflict: first && { reason: first.reason, message: faults.map(({ message }) => message).join(', ') },
  };
}

function setOrDelete<Name extends keyof CustomResourceDefinitionNames>(
  names: Partial<CustomResourceDefinitionNames>,
  name: Name,
  value: CustomResourceDefinitionNames[Name],
): void {
  if (value === undefined) delete names[name];
  else names[name] = value;
}

function takenBy(others: readonly CustomResourceDefinition[]): Taken {
  const resources = new Set<string>();
  const kinds = new Set<string>();
  for (const { spec, status } of others) {
    // One that was there first and has not been answered yet will be given what it asks for.
    const names = status?.conditions === undefined ? spec.names : status.acceptedNames;
    if (!names) continue;
    for (const name of resourceNames(names)) resources.add(name);
    for (const name of kindNames(names)) kinds.add(name);
  }
  return { resources, kinds };
}
