/** Kubernetes quantities (`250m`, `1Gi`) as plain numbers, which is what an engine wants. */
import { parseQuantity } from '../../api-schemas/quantity.ts';

/** Undefined for what is no quantity; the API server lets none of those in. */
export function quantityValue(quantity: string | number | undefined): number | undefined {
  const parsed = quantity === undefined ? undefined : parseQuantity(String(quantity));
  return parsed === undefined ? undefined : Number(parsed.nanos) / 1e9;
}
