/**
 * The `format`s that the schema of a custom kind may name, as Kubernetes knows them; a format that is not here is passed over. https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation
 */
import { isIPv4, isIPv6 } from 'node:net';
import { formats as ownFormats } from '../../api-schemas/formats.ts';

type Check = (value: string) => boolean;

const matching =
  (pattern: RegExp): Check =>
  (value) =>
    pattern.test(value);

const own = (name: string): Check => {
  const format = ownFormats[name];
  if (!format) throw new Error(`api-schemas/formats.ts has no format ${name}`);
  return format.valid as Check;
};

const UUID = '[0-9a-f]{8}-?[0-9a-f]{4}-?';
const uuid = (third: string, fourth: string): Check =>
  matching(new RegExp(`^${UUID}${third}-?${fourth}-?[0-9a-f]{12}$`, 'i'));

function isDate(value: string): boolean {
  const match = /^(\d{4})-(\d{2})-(\d{2})$/.exec(value);
  if (!match) return false;
  const [year = 0, month = 0, day = 0] = match.slice(1).map(Number);
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  return date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
}

function isUri(value: string): boolean {
  return value.startsWith('/') || (/^[A-Za-z][A-Za-z0-9+.-]*:/.test(value) && URL.canParse(value));
}

/** Go's durations, and the words of its OpenAPI library. */
const isDuration = matching(
  /^[+-]?(?:(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+$|^[+-]?0$|^\d+\s*(?:nano|micro|milli|sec|second|min|minute|hr|hour|day|week|wk|d|w)s?$/,
);

/** ISBN-10: digits weighted from ten down, an X standing for ten, add up to a multiple of eleven. */
function isIsbn10(value: string): boolean {
  const digits = value.replaceAll(/[- ]/g, '');
  if (!/^\d{9}[\dX]$/.test(digits)) return false;
  return (
    [...digits].reduce((sum, digit, index) => sum + (digit === 'X' ? 10 : Number(digit)) * (10 - index), 0) % 11 === 0
  );
}

function isIsbn13(value: string): boolean {
  const digits = value.replaceAll(/[- ]/g, '');
  if (!/^\d{13}$/.test(digits)) return false;
  return [...digits].reduce((sum, digit, index) => sum + Number(digit) * (index % 2 === 0 ? 1 : 3), 0) % 10 === 0;
}

/** The check that Luhn devised: every second digit doubled, from the right. */
function isCreditCard(value: string): boolean {
  const digits = value.replaceAll(/[- ]/g, '');
  if (!/^\d{13,19}$/.test(digits)) return false;
  const sum = [...digits].toReversed().reduce((total, digit, index) => {
    const doubled = Number(digit) * (index % 2 === 1 ? 2 : 1);
    return total + (doubled > 9 ? doubled - 9 : doubled);
  }, 0);
  return sum % 10 === 0;
}

const octet = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';

export const customFormats: Readonly<Record<string, Check>> = {
  bsonobjectid: matching(/^[0-9a-f]{24}$/i),
  uri: isUri,
  email: matching(/^[^\s@<>"]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$/),
  hostname: (value) =>
    value.length <= 255 &&
    value.split('.').every((label) => /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/.test(label)),
  ipv4: isIPv4,
  ipv6: isIPv6,
  cidr: (value) => value !== '' && own('cidr')(value),
  mac: matching(/^(?:[0-9a-f]{2}([:-]))(?:[0-9a-f]{2}\1){4}[0-9a-f]{2}$|^(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}$/i),
  uuid: uuid('[0-9a-f]{4}', '[0-9a-f]{4}'),
  uuid3: uuid('3[0-9a-f]{3}', '[0-9a-f]{4}'),
  uuid4: uuid('4[0-9a-f]{3}', '[89ab][0-9a-f]{3}'),
  uuid5: uuid('5[0-9a-f]{3}', '[89ab][0-9a-f]{3}'),
  isbn: (value) => isIsbn10(value) || isIsbn13(value),
  isbn10: isIsbn10,
  isbn13: isIsbn13,
  creditcard: isCreditCard,
  ssn: matching(/^\d{3}[- ]?\d{2}[- ]?\d{4}$/),
  hexcolor: matching(/^#?(?:[0-9a-f]{3}|[0-9a-f]{6})$/i),
  rgbcolor: matching(new RegExp(`^rgb\\(\\s*${octet}\\s*,\\s*${octet}\\s*,\\s*${octet}\\s*\\)$`)),
  byte: own('byte'),
  password: () => true,
  date: isDate,
  duration: isDuration,
  datetime: own('date-time'),
  'date-time': own('date-time'),
};
