/** Rules for claims and volumes. Keyed to them by `catalogue.ts`. Follows `pkg/apis/core/validation`. */
import { forbidden, invalid, notSupported, required, type Fault } from '../fault.ts';
import { compareQuantities, parseQuantity } from '../../../api-schemas/quantity.ts';
import { below, objectAt, sameJson, textAt, type JsonObject, type Rule } from './rule.ts';

const ACCESS_MODES = ['ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOnce', 'ReadWriteOncePod'];

function accessModeFaults(spec: JsonObject, path: string): Fault[] {
  const modes = Array.isArray(spec['accessModes']) ? (spec['accessModes'] as unknown[]) : [];
  if (modes.length === 0) return [required(below(path, 'accessModes'), 'at least 1 access mode is required')];
  return modes
    .filter((mode) => !ACCESS_MODES.includes(textAt(mode)))
    .map((mode) => notSupported(below(path, 'accessModes'), mode, ACCESS_MODES));
}

function storageFault(amount: unknown, path: string): Fault[] {
  if (amount === undefined) return [required(path)];
  const quantity = parseQuantity(textAt(amount));
  return quantity && quantity.nanos <= 0n ? [invalid(path, amount, 'must be greater than zero')] : [];
}

/** Also reached inside templates of claims, where nothing is bound yet. */
export const claimSpec: Rule = ({ value: spec, old, path, report }) => {
  const requests = objectAt(objectAt(spec['resources'])['requests']);
  report(...accessModeFaults(spec, path), ...storageFault(requests['storage'], `${below(path, 'resources')}[storage]`));
  if (!old) return;
  const before = objectAt(objectAt(old['resources'])['requests']);
  if ((compareQuantities(textAt(requests['storage']), textAt(before['storage'])) ?? 0) < 0) {
    report(forbidden(below(path, 'resources.requests.storage'), 'field can not be less than status.capacity'));
  }
};

/** What of a volume is not where its data lies. */
const BESIDE_SOURCE: ReadonlySet<string> = new Set([
  'accessModes',
  'capacity',
  'claimRef',
  'mountOptions',
  'nodeAffinity',
  'persistentVolumeReclaimPolicy',
  'storageClassName',
  'volumeAttributesClassName',
  'volumeMode',
]);

const sourceOf = (spec: JsonObject): JsonObject =>
  Object.fromEntries(Object.entries(spec).filter(([field]) => !BESIDE_SOURCE.has(field)));

export const persistentVolumeSpec: Rule = ({ value: spec, old, path, report }) => {
  if (old && !sameJson(sourceOf(spec), sourceOf(old))) {
    const at = below(path, 'persistentvolumesource');
    report(forbidden(at, 'spec.persistentvolumesource is immutable after creation'));
  }
  report(
    ...accessModeFaults(spec, path),
    ...storageFault(objectAt(spec['capacity'])['storage'], `${below(path, 'capacity')}[storage]`),
  );
};
