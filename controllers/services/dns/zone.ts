/**
 * What the cluster's zone answers: names of Services and of the pods behind headless ones, from the objects as they stand. Pure.
 * https://github.com/kubernetes/dns/blob/master/docs/specification.md
 */
import type { ServiceObject, SliceObject } from '../service-rules.ts';

export interface ZoneView {
  service(namespace: string, name: string): ServiceObject | undefined;
  slices(namespace: string, service: string): readonly SliceObject[];
  hasNamespace(namespace: string): boolean;
  serviceAt(address: string): ServiceObject | undefined;
}

export type ZoneRecord =
  | { readonly type: 'A'; readonly name: string; readonly data: string }
  | { readonly type: 'CNAME' | 'PTR'; readonly name: string; readonly data: string }
  | {
      readonly type: 'SRV';
      readonly name: string;
      readonly data: {
        readonly priority: number;
        readonly weight: number;
        readonly port: number;
        readonly target: string;
      };
    };

/** `undefined`: not of this zone, ask elsewhere. `exists` without records: there is such a name, but nothing of that type. */
export interface ZoneAnswer {
  readonly exists: boolean;
  readonly records: readonly ZoneRecord[];
  readonly additionals: readonly ZoneRecord[];
}

export const CLUSTER_DOMAIN = 'cluster.local';
const NOWHERE: ZoneAnswer = { exists: false, records: [], additionals: [] };
const EMPTY: ZoneAnswer = { exists: true, records: [], additionals: [] };

const found = (records: readonly ZoneRecord[], additionals: readonly ZoneRecord[] = []): ZoneAnswer => ({
  exists: true,
  records,
  additionals,
});

export function answer(question: { name: string; type: string }, view: ZoneView): ZoneAnswer | undefined {
  const name = question.name.toLowerCase().replace(/\.$/, '');
  if (name.endsWith('.in-addr.arpa')) return reverse(name, question.type, view);
  if (name !== CLUSTER_DOMAIN && !name.endsWith(`.${CLUSTER_DOMAIN}`)) return undefined;
  const labels = name
    .slice(0, -CLUSTER_DOMAIN.length - 1)
    .split('.')
    .filter(Boolean);
  const kind = labels.at(-1);
  const namespace = labels.at(-2);
  if (kind === undefined) return EMPTY;
  if (kind === 'pod') return podAnswer(name, labels, question.type);
  if (kind !== 'svc') return NOWHERE;
  if (namespace === undefined) return EMPTY;
  const serviceName = labels.at(-3);
  if (serviceName === undefined) return view.hasNamespace(namespace) ? EMPTY : NOWHERE;
  const service = view.service(namespace, serviceName);
  if (!service) return NOWHERE;
  const below = labels.slice(0, -3);
  return serviceAnswer({ name, type: question.type, below, service, slices: view.slices(namespace, serviceName) });
}

interface ServiceQuestion {
  readonly name: string;
  readonly type: string;
  /** The labels below the Service's name: a hostname, or `_port._protocol`. */
  readonly below: readonly string[];
  readonly service: ServiceObject;
  readonly slices: readonly SliceObject[];
}

function serviceAnswer(question: ServiceQuestion): ZoneAnswer {
  const { name, type, below, service } = question;
  if (service.spec?.type === 'ExternalName') {
    return below.length > 0 ? NOWHERE : found([{ type: 'CNAME', name, data: service.spec.externalName ?? '' }]);
  }
  if (below.length === 2 && below[0]?.startsWith('_') && below[1]?.startsWith('_')) return srvAnswer(question);
  const hosts = hostsOf(question);
  const wanted = below.length === 0 ? hosts : below.length === 1 ? hosts.filter(({ label }) => label === below[0]) : [];
  if (below.length > 0 && wanted.length === 0) return NOWHERE;
  if (type === 'SRV' && below.length === 0) return srvAnswer(question);
  if (type !== 'A' && type !== 'ANY') return EMPTY;
  const distinct = [...new Set(wanted.map(({ address }) => address))];
  return found(distinct.map((data) => ({ type: 'A', name, data })));
}

interface Host {
  readonly label: string;
  readonly address: string;
  readonly ports: readonly { readonly name: string; readonly port: number; readonly protocol: string }[];
}

/** The Service's own address, or for a headless one those of its pods. */
function hostsOf({ service, slices }: Pick<ServiceQuestion, 'service' | 'slices'>): Host[] {
  const { clusterIP, ports = [] } = service.spec ?? {};
  if (clusterIP && clusterIP !== 'None') {
    const label = clusterIP.replaceAll('.', '-');
    return [
      {
        label,
        address: clusterIP,
        ports: ports.map(({ name = '', port, protocol = 'TCP' }) => ({ name, port, protocol })),
      },
    ];
  }
  return slices.flatMap((slice) => {
    const offered = (slice.ports ?? []).map(({ name = '', port = 0, protocol = 'TCP' }) => ({ name, port, protocol }));
    return (slice.endpoints ?? [])
      .filter(({ conditions }) => conditions?.ready !== false)
      .flatMap(({ addresses, hostname }) =>
        addresses.map((address) => ({ label: hostname ?? address.replaceAll('.', '-'), address, ports: offered })),
      );
  });
}

function srvAnswer(question: ServiceQuestion): ZoneAnswer {
  const { name, type, below, service } = question;
  const [portLabel, protocolLabel] = below;
  const base = `${service.metadata.name}.${service.metadata.namespace}.svc.${CLUSTER_DOMAIN}`;
  const headless = service.spec?.clusterIP === 'None';
  const matches = hostsOf(question).flatMap(({ label, address, ports }) =>
    ports
      .filter(
        (port) =>
          portLabel === undefined ||
          (`_${port.name}` === portLabel && `_${port.protocol.toLowerCase()}` === protocolLabel),
      )
      .map((port) => ({ target: headless ? `${label}.${base}` : base, address, port: port.port })),
  );
  if (matches.length === 0) return portLabel === undefined ? EMPTY : NOWHERE;
  if (type !== 'SRV' && type !== 'ANY') return EMPTY;
  const weight = Math.max(1, Math.floor(100 / matches.length));
  const records = matches.map(({ target, port }): ZoneRecord => ({
    type: 'SRV',
    name,
    data: { priority: 0, weight, port, target },
  }));
  return found(
    records,
    matches.map(({ target, address }): ZoneRecord => ({ type: 'A', name: target, data: address })),
  );
}

/** `10-1-2-3.namespace.pod` spells the pod's address out. */
function podAnswer(name: string, labels: readonly string[], type: string): ZoneAnswer {
  const match = labels.length === 3 ? /^(\d{1,3})-(\d{1,3})-(\d{1,3})-(\d{1,3})$/.exec(labels[0] ?? '') : null;
  const parts = match?.slice(1) ?? [];
  if (parts.length === 0 || parts.some((part) => Number(part) > 255)) return labels.length < 3 ? EMPTY : NOWHERE;
  return type === 'A' || type === 'ANY' ? found([{ type: 'A', name, data: parts.join('.') }]) : EMPTY;
}

function reverse(name: string, type: string, view: ZoneView): ZoneAnswer | undefined {
  const address = name.slice(0, -'.in-addr.arpa'.length).split('.').reverse().join('.');
  const service = view.serviceAt(address);
  if (!service) return undefined;
  const data = `${service.metadata.name}.${service.metadata.namespace}.svc.${CLUSTER_DOMAIN}`;
  return type === 'PTR' || type === 'ANY' ? found([{ type: 'PTR', name, data }]) : EMPTY;
}
