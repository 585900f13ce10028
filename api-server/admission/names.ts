/**
 * The rules that names, label keys and values and the like obey, as the rules of this room ask them: every check returns the list of complaints, in Kubernetes' words; an
 * empty list is a good name. What is valid, and what to say, stands in api-schemas/formats.ts; only lengths are told apart here, as Kubernetes does.
 */
import { formats } from '../../api-schemas/formats.ts';

export type Check = (value: string) => string[];

const LABEL_LENGTH = 63;
const SUBDOMAIN_LENGTH = 253;

function checked(name: string, maxLength = Number.MAX_SAFE_INTEGER): Check {
  const format = formats[name];
  if (!format) throw new Error(`api-schemas/formats.ts has no format ${name}`);
  const valid = format.valid as (value: string) => boolean;
  return (value) => {
    if (value.length > maxLength) return [`must be no more than ${maxLength} characters`];
    return valid(value) ? [] : [format.message];
  };
}

export const dns1123Label = checked('dns-1123-label', LABEL_LENGTH);
export const dns1123Subdomain = checked('dns-1123-subdomain', SUBDOMAIN_LENGTH);
export const dns1035Label = checked('dns-1035-label', LABEL_LENGTH);
export const labelValue = checked('label-value', LABEL_LENGTH);
/** A key of a ConfigMap or Secret. */
export const configKey = checked('config-key', SUBDOMAIN_LENGTH);
export const envName = checked('env-var-name');
export const portName = checked('port-name');
export const ipAddress = checked('ip');

const checkQualified = checked('qualified-name');

/** A label or annotation key: a name, after an optional domain prefix and a slash. */
export const qualifiedName: Check = (value) => {
  const slash = value.indexOf('/');
  if (slash === 0) return ['prefix part must be non-empty'];
  if (slash > 0) {
    const prefix = dns1123Subdomain(value.slice(0, slash));
    if (prefix.length > 0) return prefix.map((says) => `prefix part ${says}`);
  }
  const name = value.slice(slash + 1);
  if (name === '') return ['name part must be non-empty'];
  return name.length > LABEL_LENGTH
    ? [`name part must be no more than ${LABEL_LENGTH} characters`]
    : checkQualified(value);
};

export const portNumber = (value: unknown): string[] =>
  typeof value === 'number' && value >= 1 && value <= 65_535 ? [] : ['must be between 1 and 65535, inclusive'];

/** What a step of a path may be called, each fault of it apart. */
export const pathSegment: Check = (value) => {
  if (value === '.' || value === '..') return [`may not be '${value}'`];
  return ['/', '%'].filter((sign) => value.includes(sign)).map((sign) => `may not contain '${sign}'`);
};

const checkWildcard = checked('wildcard-dns-1123-subdomain', SUBDOMAIN_LENGTH);

/** A host, or all hosts of a domain. */
export const wildcardSubdomain: Check = (value) =>
  value === '' ? [] : (value.includes('*') ? checkWildcard : dns1123Subdomain)(value);

const byFormat = new Map<string, Check>([
  ['path-segment', pathSegment],
  ['wildcard-dns-1123-subdomain', wildcardSubdomain],
]);

/** The check for a format by its name; undefined when there is none. */
export function formatCheck(name: string): Check | undefined {
  let check = byFormat.get(name);
  if (!check && formats[name]?.type === 'string') byFormat.set(name, (check = checked(name)));
  return check;
}

/** The check for a kind's `nameFormat`. */
export function nameCheck(format = 'dns-1123-subdomain'): Check {
  const lengths: Readonly<Record<string, Check>> = {
    'dns-1123-subdomain': dns1123Subdomain,
    'dns-1123-label': dns1123Label,
    'dns-1035-label': dns1035Label,
  };
  return lengths[format] ?? formatCheck(format) ?? dns1123Subdomain;
}
