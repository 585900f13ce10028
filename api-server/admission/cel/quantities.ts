/** Quantities in CEL: `quantity('1Gi').isGreaterThan(quantity('500Mi'))`. https://kubernetes.io/docs/reference/using-api/cel/#kubernetes-quantity-library */
import type { Environment } from '@marcbachmann/cel-js';
import { parseQuantity } from '../../../api-schemas/quantity.ts';

const NANOS = 1_000_000_000n;
const MAX_INT = 2n ** 63n - 1n;

/** Exact, in billionths. */
class CelQuantity {
  readonly nanos: bigint;
  constructor(nanos: bigint) {
    this.nanos = nanos;
  }
}

function read(text: string): CelQuantity {
  const quantity = parseQuantity(text);
  if (!quantity) throw new Error(`quantity() cannot read ${JSON.stringify(text.slice(0, 64))}`);
  return new CelQuantity(quantity.nanos);
}

const isInteger = ({ nanos }: CelQuantity): boolean =>
  nanos % NANOS === 0n && nanos / NANOS <= MAX_INT && nanos / NANOS >= -MAX_INT - 1n;

const compare = (a: bigint, b: bigint): bigint => (a < b ? -1n : a > b ? 1n : 0n);

export function registerQuantities(environment: Environment): void {
  const T = 'kubernetes.Quantity';
  const whole = (amount: bigint): bigint => amount * NANOS;
  environment
    .registerType(T, CelQuantity)
    .registerFunction(`quantity(string): ${T}`, read)
    .registerFunction('isQuantity(string): bool', (text: string) => parseQuantity(text) !== undefined)
    .registerFunction(`${T}.sign(): int`, ({ nanos }: CelQuantity) => compare(nanos, 0n))
    .registerFunction(`${T}.isInteger(): bool`, isInteger)
    .registerFunction(`${T}.asInteger(): int`, (quantity: CelQuantity) => {
      if (!isInteger(quantity)) throw new Error('cannot convert value to integer');
      return quantity.nanos / NANOS;
    })
    .registerFunction(`${T}.asApproximateFloat(): double`, ({ nanos }: CelQuantity) => Number(nanos) / Number(NANOS))
    .registerFunction(`${T}.isGreaterThan(${T}): bool`, (a: CelQuantity, b: CelQuantity) => a.nanos > b.nanos)
    .registerFunction(`${T}.isLessThan(${T}): bool`, (a: CelQuantity, b: CelQuantity) => a.nanos < b.nanos)
    .registerFunction(`${T}.compareTo(${T}): int`, (a: CelQuantity, b: CelQuantity) => compare(a.nanos, b.nanos))
    .registerFunction(`${T}.add(${T}): ${T}`, (a: CelQuantity, b: CelQuantity) => new CelQuantity(a.nanos + b.nanos))
    .registerFunction(`${T}.add(int): ${T}`, (a: CelQuantity, b: bigint) => new CelQuantity(a.nanos + whole(b)))
    .registerFunction(`${T}.sub(${T}): ${T}`, (a: CelQuantity, b: CelQuantity) => new CelQuantity(a.nanos - b.nanos))
    .registerFunction(`${T}.sub(int): ${T}`, (a: CelQuantity, b: bigint) => new CelQuantity(a.nanos - whole(b)))
    .registerOperator(`${T} == ${T}`, (a: CelQuantity, b: CelQuantity) => a.nanos === b.nanos);
}
