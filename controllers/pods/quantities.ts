/** Kubernetes quantities (`250m`, `1Gi`, `1e3`) as numbers. https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/ */

const SUFFIXES: Readonly<Record<string, number>> = {
  '': 1,
  n: 1e-9,
  u: 1e-6,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  E: 1e18,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
  Ei: 2 ** 60,
};

/** Undefined for what is no quantity; the API server lets none of those in. */
export function quantityValue(quantity: string | number | undefined): number | undefined {
  if (quantity === undefined) return undefined;
  const match = /^([+-]?\d*\.?\d+(?:[eE][+-]?\d+)?)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]?)$/.exec(String(quantity).trim());
  if (match === null) return undefined;
  const factor = SUFFIXES[match[2] ?? ''] ?? 1;
  const digits = Number(match[1]);
  // 0.001 is not exact in binary; dividing is.
  return factor < 1 ? digits / Math.round(1 / factor) : digits * factor;
}
