/** Where a process serves its metrics, as an operator says it. Read by `metrics-server.ts`, and by the supervisor, which gives each process a port of its own. */

/** `[HOST:]PORT`, where the command line does not say. */
export const METRICS_ADDRESS = 'RECKON_METRICS_ADDRESS';

export interface MetricsAddress {
  readonly host: string;
  readonly port: number;
}

/** `9102` on the loopback, `0.0.0.0:9102`, `[::1]:9102`. Throws with a sentence. */
export function readMetricsAddress(text: string): MetricsAddress {
  const [, bracketed, plain, digits] = /^(?:(?:\[([0-9a-fA-F:]+)\]|([^:[\]\s]+)):)?(\d{1,5})$/.exec(text.trim()) ?? [];
  const port = Number(digits);
  if (!digits || port > 65_535)
    throw new Error(`metrics are served at [HOST:]PORT, such as 9102 or 0.0.0.0:9102, and not at '${text}'`);
  return { host: bracketed ?? plain ?? '127.0.0.1', port };
}

export const metricsAddressText = ({ host, port }: MetricsAddress): string =>
  `${host.includes(':') ? `[${host}]` : host}:${port}`;
