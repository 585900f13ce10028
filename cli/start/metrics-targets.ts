/**
 * Where the metrics of each process are, when `reckon start` is asked for them: one port after the other, and a file that Prometheus reads its targets from (`file_sd_configs`). Used by `start.ts`.
 */
import { rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import {
  METRICS_ADDRESS,
  metricsAddressText,
  readMetricsAddress,
  type MetricsAddress,
} from '../../sdk/metrics-address.ts';
import type { Instance } from '../instance.ts';
import type { ProcessSpec } from './supervised-process.ts';

/** The processes as they were, each with an address for its metrics; and the file of targets, which is gone where nobody asks for metrics. */
export async function withMetrics(
  specs: readonly ProcessSpec[],
  { instance, address }: { readonly instance: Instance; readonly address: string | undefined },
): Promise<readonly ProcessSpec[]> {
  const file = path.join(instance.home, 'run', 'metrics-targets.json');
  if (address === undefined) {
    await rm(file, { force: true });
    return specs;
  }
  const first = readMetricsAddress(address);
  const placed = specs.map((spec, index) => ({ spec, at: { host: first.host, port: first.port + index } }));
  const targets = placed.map(({ spec, at }) => ({
    targets: [metricsAddressText(at)],
    labels: { job: 'reckon', process: spec.name, node: instance.settings.nodeName },
  }));
  const next = `${file}.${process.pid}.new`;
  await writeFile(next, `${JSON.stringify(targets, undefined, 2)}\n`);
  await rename(next, file);
  return placed.map(({ spec, at }) => withAddress(spec, at));
}

const withAddress = (spec: ProcessSpec, at: MetricsAddress): ProcessSpec => ({
  ...spec,
  environment: { ...spec.environment, [METRICS_ADDRESS]: metricsAddressText(at) },
  ports: [...(spec.ports ?? []), { ...at, what: `${spec.name} with its metrics`, flag: '--metrics' }],
});
