/** Rules for ConfigMaps, Secrets and Namespaces. Keyed to them by `catalogue.ts`. Follows `ValidateConfigMap`, `ValidateSecret` and `ValidateNamespaceFinalizeUpdate` in `pkg/apis/core/validation`. */
import { invalid, required, tooLong, type Fault } from '../fault.ts';
import { finalizerNameFaults } from '../metadata.ts';
import { configKey } from '../names.ts';
import { below, objectAt, textAt, textsAt, type JsonObject, type Rule } from './rule.ts';

/** All values of a ConfigMap or Secret together. */
export const MAX_DATA_BYTES = 1024 * 1024;

function keyFaults(object: JsonObject, fields: readonly string[]): Fault[] {
  const faults: Fault[] = [];
  const seen = new Map<string, string>();
  for (const field of fields) {
    for (const key of Object.keys(objectAt(object[field]))) {
      const at = `${field}[${key}]`;
      faults.push(...configKey(key).map((says) => invalid(at, key, says)));
      if (seen.has(key)) faults.push(invalid(at, key, `duplicate of key present in ${seen.get(key)}`));
      seen.set(key, field);
    }
  }
  return faults;
}

export const configMap: Rule = ({ value, report }) => {
  const texts = Object.values(objectAt(value['data'])).reduce<number>(
    (sum, each) => sum + Buffer.byteLength(textAt(each)),
    0,
  );
  const bytes = Object.values(objectAt(value['binaryData'])).reduce<number>(
    (sum, each) => sum + Buffer.byteLength(textAt(each), 'base64'),
    0,
  );
  report(...keyFaults(value, ['data', 'binaryData']));
  if (texts + bytes > MAX_DATA_BYTES) report(tooLong('', MAX_DATA_BYTES));
};

/** The keys that a typed Secret must hold. */
const NEEDED: ReadonlyMap<string, readonly string[]> = new Map([
  ['kubernetes.io/dockercfg', ['.dockercfg']],
  ['kubernetes.io/dockerconfigjson', ['.dockerconfigjson']],
  ['kubernetes.io/ssh-auth', ['ssh-privatekey']],
  ['kubernetes.io/tls', ['tls.crt', 'tls.key']],
]);

export const secret: Rule = ({ value, report }) => {
  const data = objectAt(value['data']);
  const size = Object.values(data).reduce<number>((sum, each) => sum + Buffer.byteLength(textAt(each), 'base64'), 0);
  report(...keyFaults(value, ['data']));
  if (size > MAX_DATA_BYTES) report(tooLong('data', MAX_DATA_BYTES));
  for (const key of NEEDED.get(textAt(value['type'])) ?? [])
    if (!Object.hasOwn(data, key)) report(required(below('', `data[${key}]`)));
    else if (key.startsWith('.docker')) report(...registryFaults(textAt(data[key]), `data[${key}]`));
};

/** Nothing is shown of the value; what is wrong with it is told as Go tells it. */
function registryFaults(encoded: string, field: string): Fault[] {
  const fault = (says: string): Fault[] => [invalid(field, '<secret contents redacted>', says)];
  const text = Buffer.from(encoded, 'base64').toString();
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && !Array.isArray(value)) return [];
    const type = Array.isArray(value) ? 'array' : typeof value === 'boolean' ? 'bool' : typeof value;
    return fault(`json: cannot unmarshal ${type} into Go value of type map[string]interface {}`);
  } catch (cause) {
    const sign = /^Unexpected token '?(.)'?/u.exec((cause as Error).message)?.[1];
    return fault(
      sign === undefined
        ? 'unexpected end of JSON input'
        : `invalid character '${sign}' looking for beginning of value`,
    );
  }
}

export const namespaceSpec: Rule = ({ value, path, report }) =>
  report(...finalizerNameFaults(textsAt(value['finalizers']), below(path, 'finalizers'), { standard: true }));
