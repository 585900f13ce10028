/**
 * Named formats in CEL, and texts made from values: `!format.dns1123Label().validate(self).hasValue()`, `'%s has %d'.format([self.name, self.count])`.
 * https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-format-library
 */
import { Optional, type Environment } from '@marcbachmann/cel-js';
import { customFormats } from '../../custom-resources/formats.ts';
import { dns1035Label, dns1123Label, dns1123Subdomain, labelValue, qualifiedName, type Check } from '../names.ts';

/** A prefix may end in a hyphen: what is appended ends it well. */
const prefix =
  (check: Check): Check =>
  (value) =>
    check(value.replace(/-$/, 'a'));

const named = (name: string): Check => {
  const valid = customFormats[name];
  if (!valid) throw new Error(`there is no format ${name}`);
  return (value) => (valid(value) ? [] : [`must be of format ${name}`]);
};

const FORMATS: Readonly<Record<string, Check>> = {
  dns1123Label,
  dns1123Subdomain,
  dns1035Label,
  qualifiedName,
  labelValue,
  dns1123LabelPrefix: prefix(dns1123Label),
  dns1123SubdomainPrefix: prefix(dns1123Subdomain),
  dns1035LabelPrefix: prefix(dns1035Label),
  uri: named('uri'),
  uuid: named('uuid'),
  byte: named('byte'),
  date: named('date'),
  datetime: named('datetime'),
};

class FormatFunctions {}

class CelFormat {
  readonly check: Check;
  constructor(check: Check) {
    this.check = check;
  }
}

export function registerFormats(environment: Environment): void {
  const T = 'kubernetes.NamedFormat';
  environment
    .registerType('FormatFunctions', FormatFunctions)
    .registerConstant('format', 'FormatFunctions', new FormatFunctions())
    .registerType(T, CelFormat)
    .registerFunction(`FormatFunctions.named(string): optional<${T}>`, (_: unknown, name: string) => {
      const check = Object.hasOwn(FORMATS, name) ? FORMATS[name] : undefined;
      return check ? Optional.of(new CelFormat(check)) : Optional.none();
    })
    .registerFunction(`${T}.validate(string): optional<list<string>>`, ({ check }: CelFormat, value: string) => {
      const complaints = check(value);
      return complaints.length > 0 ? Optional.of(complaints) : Optional.none();
    })
    .registerFunction('string.format(list): string', (text: string, values: readonly unknown[]) =>
      filled(text, values),
    );
  for (const [name, check] of Object.entries(FORMATS))
    environment.registerFunction(`FormatFunctions.${name}(): ${T}`, () => new CelFormat(check));
}

/** What `%s`, `%d`, `%f`, `%e`, `%x`, `%X`, `%o` and `%b` stand for, in turn. */
function filled(text: string, values: readonly unknown[]): string {
  let next = 0;
  return text.replaceAll(/%(?:\.(\d{1,2}))?([%sdfexXob])/g, (_, digits: string | undefined, verb: string) => {
    if (verb === '%') return '%';
    if (next >= values.length) throw new Error(`index ${next} out of range`);
    return written(verb, values[next++], digits === undefined ? 6 : Number(digits));
  });
}

const RADIX: Readonly<Record<string, number>> = { d: 10, x: 16, X: 16, o: 8, b: 2 };

function written(verb: string, value: unknown, digits: number): string {
  if (verb === 's') return plain(value);
  if (verb === 'f') return Number(value).toFixed(digits);
  if (verb === 'e') return Number(value).toExponential(digits);
  if (typeof value !== 'bigint' && typeof value !== 'number') throw new Error(`%${verb} needs a number`);
  const number = value.toString(RADIX[verb]);
  return verb === 'X' ? number.toUpperCase() : number;
}

function plain(value: unknown): string {
  if (typeof value === 'string') return value;
  if (value instanceof Date) return value.toISOString().replace('.000Z', 'Z');
  if (Array.isArray(value)) return `[${value.map(plain).join(', ')}]`;
  if (value instanceof Map) return plain(Object.fromEntries(value));
  if (typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype)
    return `{${Object.entries(value)
      .map(([key, each]) => `${key}: ${plain(each)}`)
      .join(', ')}}`;
  return String(value);
}
