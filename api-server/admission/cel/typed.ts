/**
 * The types that a custom kind's schema gives to its rules, so that a rule which names a field that there is not, or compares what cannot be compared, is refused with the definition and not with every object. Used by
 * `custom-resources/validation-rules.ts`.
 */
import type { Environment } from '@marcbachmann/cel-js';
import { celName } from './names.ts';

type Props = Readonly<Record<string, unknown>>;

/** What lies deeper in a very large schema is left untyped. */
const MAX_TYPES = 1_000;
const SCALARS: Readonly<Record<string, string>> = {
  boolean: 'bool',
  integer: 'int',
  number: 'double',
  string: 'string',
};
const FORMATS: Readonly<Record<string, string>> = {
  byte: 'bytes',
  date: 'google.protobuf.Timestamp',
  datetime: 'google.protobuf.Timestamp',
  'date-time': 'google.protobuf.Timestamp',
  duration: 'google.protobuf.Duration',
};

const isProps = (value: unknown): value is Props =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** An environment in which `self` and `oldSelf` have the type of the node. `optionalOldSelf`: there may be no old value. */
export function typedEnvironment(
  library: Environment,
  props: Props,
  optionalOldSelf: boolean,
  isRoot: boolean,
): Environment {
  const environment = library.clone();
  const types = new Types(environment);
  const type = types.of(props, isRoot);
  return environment
    .registerVariable('self', type)
    .registerVariable('oldSelf', optionalOldSelf ? `optional<${type}>` : type);
}

class Types {
  readonly #environment: Environment;
  #count = 0;

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  of(props: Props, isWhole = props['x-kubernetes-embedded-resource'] === true): string {
    const { type, format, items, additionalProperties, properties } = props;
    if (props['nullable'] === true || props['x-kubernetes-int-or-string'] === true) return 'dyn';
    if (type === 'array') return isProps(items) ? `list<${this.of(items)}>` : 'list';
    if (type !== 'object')
      return FORMATS[String(format)] && type === 'string'
        ? String(FORMATS[String(format)])
        : (SCALARS[String(type)] ?? 'dyn');
    if (isProps(additionalProperties)) return `map<string, ${this.of(additionalProperties)}>`;
    if (!isProps(properties) && !isWhole) return props['x-kubernetes-preserve-unknown-fields'] === true ? 'dyn' : 'map';
    if (++this.#count > MAX_TYPES) return 'dyn';
    return this.#struct(isProps(properties) ? properties : {}, isWhole);
  }

  #struct(properties: Props, isWhole: boolean): string {
    const fields: Record<string, string> = isWhole ? { apiVersion: 'string', kind: 'string', metadata: 'dyn' } : {};
    const name = `Struct${this.#count}`;
    for (const [field, child] of Object.entries(properties)) {
      const reachable = celName(field);
      if (reachable !== undefined && isProps(child) && !(isWhole && Object.hasOwn(fields, field)))
        fields[reachable] = this.of(child);
    }
    // A struct that has no fields is a type all the same, and there is no such thing in the library.
    if (Object.keys(fields).length === 0) return 'map';
    this.#environment.registerType(name, { fields });
    return name;
  }
}
