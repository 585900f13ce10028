/**
 * The `format`s that the schema files use: for each a predicate and what to tell a person whose value does not fit, in the words that Kubernetes
 * uses (scripts match on them). Validation hands them to ajv; the rules for object names (`nameFormat`) are looked up here too. The empty string
 * passes every format of names and addresses, as Go cannot tell it from an absent field: a field that must not be empty has `minLength: 1`.
 * https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
 */
import { isIP, isIPv4, isIPv6 } from 'node:net';

export interface Format {
  /** The JSON type that the format constrains; values of other types pass. */
  readonly type: 'string' | 'number';
  readonly valid: (value: never) => boolean;
  /** Said after the value: "must be …". */
  readonly message: string;
}

const LABEL = '[a-z0-9]([-a-z0-9]*[a-z0-9])?';
const QUALIFIED = '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]';
const LABEL_LENGTH = 63;
const SUBDOMAIN_LENGTH = 253;
const PORT_NAME_LENGTH = 15;
const INT32 = 2 ** 31;
const INT64 = 2 ** 63;

const dns1123Label = new RegExp(`^${LABEL}$`);
const dns1035Label = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const dns1123Subdomain = new RegExp(`^${LABEL}(\\.${LABEL})*$`);
const qualifiedPart = new RegExp(`^${QUALIFIED}$`);
const quantity = /^[+-]?(\d+(\.\d*)?|\.\d+)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d+)?$/;
const dateTime = /^\d{4}-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})([.,]\d+)?([Zz]|[+-]\d{2}:\d{2})$/;
const base64 = /^[A-Za-z0-9+/]*={0,2}$/;

function isSubdomain(value: string): boolean {
  return value.length <= SUBDOMAIN_LENGTH && dns1123Subdomain.test(value);
}

function isQualifiedName(value: string): boolean {
  const slash = value.indexOf('/');
  const name = value.slice(slash + 1);
  if (name.length > LABEL_LENGTH || !qualifiedPart.test(name)) return false;
  return slash === -1 || isSubdomain(value.slice(0, slash));
}

function isLabelValue(value: string): boolean {
  return value === '' || (value.length <= LABEL_LENGTH && qualifiedPart.test(value));
}

function isDateTime(value: string): boolean {
  const [, month = 0, day = 0, hour = 0, minute = 0, second = 0] = (dateTime.exec(value) ?? []).map(Number);
  return month >= 1 && month <= 12 && day >= 1 && day <= 31 && hour <= 23 && minute <= 59 && second <= 59;
}

/** Go's decoder skips line breaks inside base64, and so do we. */
function isBase64(value: string): boolean {
  const packed = value.replace(/[\r\n]/g, '');
  return packed.length % 4 === 0 && base64.test(packed);
}

function isCidr(value: string): boolean {
  const [address = '', length = '', ...rest] = value.split('/');
  const family = isIP(address);
  return rest.length === 0 && family !== 0 && /^\d{1,3}$/.test(length) && Number(length) <= (family === 4 ? 32 : 128);
}

/** An IANA service name: what a container port, and a service port's target, may be called. */
function isPortName(value: string): boolean {
  return (
    value.length <= PORT_NAME_LENGTH && /^[a-z0-9-]+$/.test(value) && /[a-z]/.test(value) && !/^-|-$|--/.test(value)
  );
}

function isConfigKey(value: string): boolean {
  return (
    value.length <= SUBDOMAIN_LENGTH && /^[-._a-zA-Z0-9]+$/.test(value) && value !== '.' && !value.startsWith('..')
  );
}

const CRON_FIELDS: readonly (readonly [low: number, high: number, names: readonly string[]])[] = [
  [0, 59, []],
  [0, 23, []],
  [1, 31, []],
  [1, 12, ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec']],
  [0, 6, ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat']],
];

/** Five fields, or a nickname such as `@hourly`, or `@every 1h30m`; a time zone has a field of its own and does not belong here. */
function isCron(value: string): boolean {
  if (/^@(yearly|annually|monthly|weekly|daily|midnight|hourly)$/.test(value)) return true;
  if (/^@every (\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(value)) return true;
  const fields = value.trim().split(/\s+/);
  return fields.length === CRON_FIELDS.length && fields.every(isCronField);
}

function isCronField(field: string, index: number): boolean {
  const [low, high, names] = CRON_FIELDS[index] ?? [0, 0, []];
  const numberOf = (text: string): number => {
    const named = names.indexOf(text.toLowerCase());
    return named >= 0 ? named + low : /^\d+$/.test(text) ? Number(text) : NaN;
  };
  return field.split(',').every((part) => {
    const [range = '', step, ...rest] = part.split('/');
    if (rest.length > 0 || (step !== undefined && !/^[1-9]\d*$/.test(step))) return false;
    if (range === '*' || range === '?') return true;
    const ends = range.split('-').map(numberOf);
    const [first = NaN, last = first] = ends;
    return ends.length <= 2 && first >= low && last <= high && first <= last;
  });
}

/** A format that constrains only what is there. */
const name = (valid: (value: string) => boolean, message: string): Format =>
  text((value) => value === '' || valid(value), message);
const text = (valid: (value: string) => boolean, message: string): Format => ({
  type: 'string',
  valid: valid as (value: never) => boolean,
  message,
});
const number = (valid: (value: number) => boolean, message: string): Format => ({
  type: 'number',
  valid: valid as (value: never) => boolean,
  message,
});

const SUBDOMAIN_MESSAGE =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character " +
  "(e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED_MESSAGE =
  "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character " +
  "(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]'), with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";

/** As in the database of time zones; a Job's controller, wherever it runs, must read the same in it. */
function isTimeZone(value: string): boolean {
  if (value === 'Local') return false;
  try {
    return new Intl.DateTimeFormat('en', { timeZone: value }).format().length > 0;
  } catch {
    return false;
  }
}

const MAX_SYSCTL_LENGTH = 253;
const sysctl = /^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$/;

export const formats: Readonly<Record<string, Format>> = {
  'dns-1123-label': name(
    (value) => value.length <= LABEL_LENGTH && dns1123Label.test(value),
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character " +
      "(e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
  ),
  'dns-1035-label': name(
    (value) => value.length <= LABEL_LENGTH && dns1035Label.test(value),
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character " +
      "(e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
  ),
  'dns-1123-subdomain': name(isSubdomain, SUBDOMAIN_MESSAGE),
  'wildcard-dns-1123-subdomain': name((value) => isSubdomain(value.replace(/^\*\./, '')), SUBDOMAIN_MESSAGE),
  'path-segment': name(
    (value) => value !== '' && value !== '.' && value !== '..' && !/[/%]/.test(value),
    "may not be '.' or '..', or contain '/' or '%'",
  ),
  'qualified-name': name(isQualifiedName, QUALIFIED_MESSAGE),
  'label-key': name(isQualifiedName, QUALIFIED_MESSAGE),
  'label-value': name(
    isLabelValue,
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character " +
      "(e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
  ),
  'config-key': name(
    isConfigKey,
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
  ),
  'env-var-name': name(
    (value) => /^[ -<>-~]+$/.test(value),
    "a valid environment variable name must consist only of printable ASCII characters other than '='",
  ),
  'port-name': name(
    isPortName,
    "must be at most 15 characters, contain only alphanumeric characters (a-z, 0-9) and hyphens ('-') with at least one letter, and must not begin or end with a hyphen or contain two in a row",
  ),
  'http-header-name': name(
    (value) => /^[-A-Za-z0-9]+$/.test(value),
    "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
  ),
  'time-zone': name(isTimeZone, 'unknown time zone'),
  'sysctl-name': name(
    (value) => value.length <= MAX_SYSCTL_LENGTH && sysctl.test(value),
    `must have at most ${MAX_SYSCTL_LENGTH} characters and match regex ${sysctl.source}`,
  ),
  ip: name((value) => isIP(value) !== 0, 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'),
  ipv4: name(isIPv4, 'must be a valid IPv4 address'),
  ipv6: name(isIPv6, 'must be a valid IPv6 address'),
  cidr: name(isCidr, 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)'),
  'absolute-path': name((value) => value.startsWith('/'), 'must be an absolute path'),
  'relative-path': name(
    (value) => !value.startsWith('/') && !value.split('/').includes('..'),
    "must be a relative path that does not contain the '..' element",
  ),
  quantity: text(
    (value) => quantity.test(value),
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
  ),
  'int-or-string': text(() => true, 'must be a number or a string'),
  'date-time': text(isDateTime, 'must be a date and time as in RFC 3339 (e.g. 2006-01-02T15:04:05Z)'),
  byte: text(isBase64, 'must be base64'),
  cron: name(isCron, "must be a cron schedule of five fields (e.g. '*/5 * * * *') or a nickname such as '@hourly'"),
  int32: number(
    (value) => Number.isInteger(value) && value >= -INT32 && value < INT32,
    'must be a whole number of 32 bits',
  ),
  int64: number(
    (value) => Number.isInteger(value) && value >= -INT64 && value < INT64,
    'must be a whole number of 64 bits',
  ),
  double: number((value) => Number.isFinite(value), 'must be a number'),
};
