/** Rules for what storage drivers say of themselves and ask for. Keyed to the types by `catalogue.ts`. Follows `pkg/apis/storage/validation`; what CEL can say stands in the schemas. */
import { duplicate, invalid, notSupported, required, tooLong, type Fault } from '../fault.ts';
import { dns1123Subdomain, qualifiedName } from '../names.ts';
import { below, objectAt, objectsAt, sameJson, textAt, textsAt, type JsonObject, type Rule } from './rule.ts';

const MAX_DRIVER_LENGTH = 63;
const MAX_NODE_ID_LENGTH = 192;
const LIFECYCLES = ['Persistent', 'Ephemeral'];

function driverNameFaults(name: string, field: string): Fault[] {
  if (name === '') return [required(field)];
  const faults = name.length > MAX_DRIVER_LENGTH ? [tooLong(field, MAX_DRIVER_LENGTH)] : [];
  return [...faults, ...dns1123Subdomain(name.toLowerCase()).map((says) => invalid(field, name, says))];
}

export const volumeAttachmentSpec: Rule = ({ value, path, report }) =>
  report(...driverNameFaults(textAt(value['attacher']), below(path, 'attacher')));

export const csiNode: Rule = ({ value, old, report }) => {
  const drivers = objectsAt(objectAt(value['spec'])['drivers']);
  const names = new Set<string>();
  for (const [index, driver] of drivers.entries()) {
    const at = below('spec', 'drivers', index);
    const name = textAt(driver['name']);
    report(...driverNameFaults(name, below(at, 'name')), ...installedFaults(driver, at));
    if (name !== '' && names.has(name)) report(duplicate(below(at, 'name'), name));
    names.add(name);
  }
  // Kubernetes names the type here, and no place.
  for (const before of objectsAt(objectAt(old?.['spec'])['drivers'])) {
    const now = drivers.find((driver) => driver['name'] === before['name']);
    if (now && !sameJson(now, before)) report(invalid('CSINodeDriver', now, 'field is immutable'));
  }
};

function installedFaults(driver: JsonObject, path: string): Fault[] {
  const faults: Fault[] = [];
  const id = textAt(driver['nodeID']);
  const at = below(path, 'nodeID');
  if (id === '') faults.push(required(at));
  else if (id.length > MAX_NODE_ID_LENGTH)
    faults.push(invalid(at, id, `must be ${MAX_NODE_ID_LENGTH} characters or less`));
  const keys = textsAt(driver['topologyKeys']);
  for (const [index, key] of keys.entries()) {
    if (key === '') faults.push(required(path));
    if (keys.indexOf(key) < index) faults.push(duplicate(path, key));
    faults.push(...qualifiedName(key).map((says) => invalid(path, key, says)));
  }
  return faults;
}

export const csiDriverSpec: Rule = ({ value, path, report }) => {
  const audiences = new Set<string>();
  for (const [index, { audience }] of objectsAt(value['tokenRequests']).entries()) {
    const name = textAt(audience);
    if (audiences.has(name)) report(duplicate(below(below(path, 'tokenRequests', index), 'audience'), name));
    audiences.add(name);
  }
  for (const mode of textsAt(value['volumeLifecycleModes']))
    if (!LIFECYCLES.includes(mode)) report(notSupported(below(path, 'volumeLifecycleModes'), mode, LIFECYCLES));
};

/** Kubernetes judges what a pod costs beside its containers as if it were their limits, and says so. */
export const podOverhead: Rule = ({ value, path, report }) => {
  for (const [resource, amount] of Object.entries(objectAt(value['podFixed'])))
    if (textAt(amount).startsWith('-'))
      report(invalid(`${below(path, 'limits')}[${resource}]`, amount, 'must be greater than or equal to 0'));
};
