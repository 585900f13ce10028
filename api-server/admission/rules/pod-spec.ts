/**
 * Rules for a pod's spec, wherever it stands (Pod, any pod template): volumes, containers and how they refer to each other. Keyed to PodSpec by
 * `catalogue.ts`. Follows `ValidatePodSpec` in `pkg/apis/core/validation`.
 */
import { duplicate, forbidden, invalid, notSupported, required, type Fault } from '../fault.ts';
import { dns1123Label, dns1123Subdomain } from '../names.ts';
import { labelsFaults, labelAndAnnotationFaults } from '../metadata.ts';
import { containerFaults, type PodContext } from './containers.ts';
import { ephemeralContainersFaults } from './ephemeral-containers.ts';
import { below, objectAt, objectsAt, stringsAt, textAt, type JsonObject, type Rule } from './rule.ts';

const VOLUME_SETTINGS = new Set(['name']);

export const podSpec: Rule = ({ value: spec, path, report }) => {
  const volumes = new Map(objectsAt(spec['volumes']).map((volume) => [textAt(volume['name']), volume]));
  const context: PodContext = {
    volumes,
    restartPolicy: textAt(spec['restartPolicy']),
    hostNetwork: spec['hostNetwork'] === true,
  };
  report(...volumeFaults(spec, path), ...allContainersFaults(spec, path, context), ...scalarFaults(spec, path));
  report(
    ...labelsFaults(stringsAt(spec['nodeSelector']), below(path, 'nodeSelector')),
    ...tolerationFaults(spec, path),
    ...ephemeralContainersFaults(spec, path),
  );
};

/** A template's labels and annotations obey what an object's do. */
export const podTemplate: Rule = ({ value, path, report }) =>
  report(...labelAndAnnotationFaults(objectAt(value['metadata']), below(path, 'metadata')));

function allContainersFaults(spec: JsonObject, path: string, context: PodContext): Fault[] {
  const faults: Fault[] = [];
  const names = new Set<string>();
  const hostPorts = new Set<string>();
  const lists = [
    ['initContainers', 'init'],
    ['containers', 'container'],
    ['ephemeralContainers', 'ephemeral'],
  ] as const;
  if (objectsAt(spec['containers']).length === 0) faults.push(required(below(path, 'containers')));
  for (const [field, role] of lists) {
    for (const [index, container] of objectsAt(spec[field]).entries()) {
      const at = below(path, field, index);
      faults.push(...containerFaults(container, at, role, context));
      const name = textAt(container['name']);
      if (name !== '' && names.has(name)) faults.push(duplicate(below(at, 'name'), name));
      names.add(name);
      if (role !== 'container') continue;
      for (const [place, port] of objectsAt(container['ports']).entries()) {
        if (!port['hostPort']) continue;
        const taken = `${textAt(port['protocol']) || 'TCP'}//${String(port['hostPort'])}//${textAt(port['hostIP'])}`;
        if (hostPorts.has(taken)) faults.push(duplicate(below(below(at, 'ports', place), 'hostPort'), taken));
        hostPorts.add(taken);
      }
    }
  }
  return faults;
}

function volumeFaults(spec: JsonObject, path: string): Fault[] {
  const faults: Fault[] = [];
  const names = new Set<string>();
  for (const [index, volume] of objectsAt(spec['volumes']).entries()) {
    const at = below(path, 'volumes', index);
    const name = textAt(volume['name']);
    if (name === '') faults.push(required(below(at, 'name')));
    else faults.push(...dns1123Label(name).map((says) => invalid(below(at, 'name'), name, says)));
    if (name !== '' && names.has(name)) faults.push(duplicate(below(at, 'name'), name));
    names.add(name);
    faults.push(...volumeSourceFaults(volume, at));
  }
  return faults;
}

function volumeSourceFaults(volume: JsonObject, path: string): Fault[] {
  const sources = Object.keys(volume).filter((field) => !VOLUME_SETTINGS.has(field));
  if (sources.length === 0) return [required(path, 'must specify a volume type')];
  const faults = sources
    .slice(1)
    .map((source) => forbidden(below(path, source), 'may not specify more than 1 volume type'));
  const needs = {
    persistentVolumeClaim: 'claimName',
    secret: 'secretName',
    configMap: 'name',
    hostPath: 'path',
  } as const;
  for (const [source, field] of Object.entries(needs)) {
    if (volume[source] !== undefined && textAt(objectAt(volume[source])[field]) === '')
      faults.push(required(below(below(path, source), field)));
  }
  for (const source of ['secret', 'configMap', 'projected', 'downwardAPI']) {
    const mode = objectAt(volume[source])['defaultMode'];
    if (typeof mode === 'number' && (mode < 0 || mode > 0o777)) {
      faults.push(
        invalid(
          below(below(path, source), 'defaultMode'),
          mode,
          'must be a number between 0 and 0777 (octal), both inclusive',
        ),
      );
    }
    faults.push(...itemFaults(objectAt(volume[source]), below(path, source)));
  }
  const hostPath = textAt(objectAt(volume['hostPath'])['path']);
  if (hostPath.split('/').includes('..'))
    faults.push(invalid(below(below(path, 'hostPath'), 'path'), hostPath, "must not contain '..'"));
  return faults;
}

function itemFaults(source: JsonObject, path: string): Fault[] {
  return objectsAt(source['items']).flatMap((item, index) => {
    const at = below(path, 'items', index);
    const target = textAt(item['path']);
    if (target === '') return [required(below(at, 'path'))];
    if (target.startsWith('/')) return [invalid(below(at, 'path'), target, 'must be a relative path')];
    return target.split('/').includes('..') ? [invalid(below(at, 'path'), target, "must not contain '..'")] : [];
  });
}

function scalarFaults(spec: JsonObject, path: string): Fault[] {
  const faults: Fault[] = [];
  for (const field of ['hostname', 'subdomain']) {
    const name = textAt(spec[field]);
    if (name !== '') faults.push(...dns1123Label(name).map((says) => invalid(below(path, field), name, says)));
  }
  for (const field of ['serviceAccountName', 'nodeName', 'runtimeClassName', 'priorityClassName']) {
    const name = textAt(spec[field]);
    if (name !== '') faults.push(...dns1123Subdomain(name).map((says) => invalid(below(path, field), name, says)));
  }
  const grace = spec['terminationGracePeriodSeconds'];
  if (typeof grace === 'number' && grace < 0)
    faults.push(invalid(below(path, 'terminationGracePeriodSeconds'), grace, 'must be greater than or equal to 0'));
  const deadline = spec['activeDeadlineSeconds'];
  if (typeof deadline === 'number' && (deadline < 1 || deadline > 0x7fffffff)) {
    faults.push(invalid(below(path, 'activeDeadlineSeconds'), deadline, 'must be between 1 and 2147483647, inclusive'));
  }
  return faults;
}

function tolerationFaults(spec: JsonObject, path: string): Fault[] {
  return objectsAt(spec['tolerations']).flatMap((toleration, index) => {
    const at = below(path, 'tolerations', index);
    const operator = textAt(toleration['operator']) || 'Equal';
    const faults: Fault[] = [];
    if (textAt(toleration['key']) === '' && operator !== 'Exists')
      faults.push(
        invalid(
          below(at, 'operator'),
          operator,
          'operator must be Exists when `key` is empty, which means "match all values and all keys"',
        ),
      );
    if (operator === 'Exists' && textAt(toleration['value']) !== '')
      faults.push(invalid(below(at, 'operator'), operator, "value must be empty when `operator` is 'Exists'"));
    if (operator !== 'Exists' && operator !== 'Equal')
      faults.push(notSupported(below(at, 'operator'), operator, ['Equal', 'Exists']));
    if (toleration['tolerationSeconds'] !== undefined && toleration['effect'] !== 'NoExecute') {
      faults.push(
        invalid(
          below(at, 'effect'),
          toleration['effect'] ?? '',
          "effect must be 'NoExecute' when `tolerationSeconds` is set",
        ),
      );
    }
    return faults;
  });
}
