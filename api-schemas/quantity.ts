/**
 * Resource quantities (`500m`, `1Gi`, `1e3`): reading, comparing, and the canonical form that Kubernetes stores. Called by `decode.ts`, which
 * stores every quantity canonically, and by the rules that compare them. Exact: a value is a whole number of nano-units in a bigint.
 * https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
 */

type Format = 'decimal' | 'binary' | 'exponent';

export interface Quantity {
  /** The value in billionths: `1` is 1_000_000_000n. Anything finer was rounded up, as Kubernetes does. */
  readonly nanos: bigint;
  readonly format: Format;
}

const NANOS = 1_000_000_000n;
const DECIMAL: Readonly<Record<string, number>> = { n: -9, u: -6, m: -3, '': 0, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 };
const BINARY: Readonly<Record<string, bigint>> = { Ki: 10n, Mi: 20n, Gi: 30n, Ti: 40n, Pi: 50n, Ei: 60n };
const SHAPE = /^([+-]?)(\d*)(?:\.(\d*))?(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,3}))?$/;
/** Longer texts are refused: no sensible amount needs them, and bigint arithmetic on them is not free. */
const MAX_LENGTH = 64;
const MAX_EXPONENT = 30;

/** Undefined when the text is not a quantity. */
export function parseQuantity(text: string): Quantity | undefined {
  const match = text.length > MAX_LENGTH ? null : SHAPE.exec(text);
  if (!match) return undefined;
  const [, sign, whole = '', fraction = '', suffix = '', exponent] = match;
  if (whole === '' && fraction === '') return undefined;
  const digits = BigInt(`${whole}${fraction}`);
  const shift = BINARY[suffix];
  const power = exponent === undefined ? (DECIMAL[suffix] ?? 0) : Number(exponent);
  if (Math.abs(power) > MAX_EXPONENT) return undefined;
  const numerator = digits * NANOS * (shift === undefined ? 1n : 1n << shift) * 10n ** BigInt(Math.max(power, 0));
  const denominator = 10n ** BigInt(fraction.length + Math.max(-power, 0));
  const magnitude = (numerator + denominator - 1n) / denominator;
  return {
    nanos: sign === '-' ? -magnitude : magnitude,
    format: shift !== undefined ? 'binary' : exponent !== undefined ? 'exponent' : 'decimal',
  };
}

/** The form that Kubernetes stores: no fraction, and the largest suffix that allows that. `1500m` and `1.5` are both `1500m`; `1024Mi` is `1Gi`. */
export function formatQuantity(quantity: Quantity): string {
  const { nanos } = quantity;
  if (nanos === 0n) return '0';
  const sign = nanos < 0n ? '-' : '';
  const magnitude = nanos < 0n ? -nanos : nanos;
  const binary = quantity.format === 'binary' && magnitude % NANOS === 0n && magnitude / NANOS >= 1024n;
  if (binary) {
    let units = magnitude / NANOS;
    let suffix = '';
    for (const next of Object.keys(BINARY)) {
      if (units % 1024n !== 0n) break;
      [units, suffix] = [units / 1024n, next];
    }
    return `${sign}${units}${suffix}`;
  }
  let units = magnitude;
  let power = -9;
  while (units % 1000n === 0n && power < 18) [units, power] = [units / 1000n, power + 3];
  if (quantity.format === 'exponent') return `${sign}${units}${power === 0 ? '' : `e${power}`}`;
  const suffix = Object.keys(DECIMAL).find((key) => DECIMAL[key] === power) ?? '';
  return `${sign}${units}${suffix}`;
}

/** Negative, zero or positive, as `a` is less than, equal to or greater than `b`; undefined when either is no quantity. */
export function compareQuantities(a: string, b: string): number | undefined {
  const left = parseQuantity(a);
  const right = parseQuantity(b);
  if (!left || !right) return undefined;
  return left.nanos < right.nanos ? -1 : left.nanos > right.nanos ? 1 : 0;
}

/** What Kubernetes says of a text that is no quantity. */
export const QUANTITY_RULE =
  "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
