/**
 * All Services of the node as one nftables table, in the text that `nft -f` takes: loaded whole and at once, so that the kernel never has half of it. Pure.
 */
import type { PortRule, Target } from './service-rules.ts';

export interface RulesetOptions {
  /** The instance's own table, so that instances on one machine leave each other alone. */
  readonly table: string;
  readonly podCidr: string;
  readonly serviceCidr: string;
}

const block = (kind: string, name: string, lines: readonly string[]): string =>
  [`  ${kind} ${name} {`, ...lines.map((line) => `    ${line}`), '  }'].join('\n');

const elements = (items: readonly string[]): string[] =>
  items.length === 0 ? [] : [`elements = { ${items.join(', ')} }`];

/** Clients are dealt into so many lots, and each lot goes to one target. */
const LOTS = 256;

/**
 * Which target each lot has: the one that weighs most for it. Nothing is remembered, so the choice outlives every reload, and only the lots of a target that goes move elsewhere. There is no
 * time-out after which a client may go elsewhere (`timeoutSeconds`): it stays.
 */
export function lotsOf(targets: readonly Target[]): Target[] {
  const weighed = targets.map((target) => ({ target, name: `${target.address}:${target.port}` }));
  return Array.from({ length: LOTS }, (_, lot) => {
    const weights = weighed.map(({ target, name }) => ({ target, weight: weightOf(`${lot}/${name}`) }));
    return weights.reduce((best, next) => (next.weight > best.weight ? next : best)).target;
  });
}

/** FNV-1a, stirred once more (as MurmurHash3 ends) so that names that differ little weigh very differently. */
function weightOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/** One connection goes to one target: chosen at random, or by the client's address. */
function serviceChain({ id, protocol, targets, sticky }: PortRule): string {
  const choices = sticky ? lotsOf(targets) : targets;
  const by = sticky ? `jhash ip saddr mod ${LOTS} seed 1` : `numgen random mod ${targets.length}`;
  const elementOf = ({ address, port }: Target, index: number) => `${index} : ${address} . ${port}`;
  return block('chain', `svc_${id}`, [
    `meta l4proto ${protocol} dnat ip to ${by} map { ${choices.map(elementOf).join(', ')} }`,
  ]);
}

/** What several Services claim (an external address and port, say) goes to the first: the kernel would refuse the whole table. */
function undisputed(rules: readonly PortRule[]): PortRule[] {
  const takenPorts = new Set<string>();
  const takenIds = new Set<string>();
  const isFree = (taken: Set<string>, key: string): boolean => !taken.has(key) && Boolean(taken.add(key));
  return [...rules]
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .filter(({ id }) => isFree(takenIds, id))
    .map((rule) => {
      const { protocol, port, nodePort } = rule;
      return {
        ...rule,
        addresses: rule.addresses.filter((address) => isFree(takenPorts, `${address}/${protocol}/${port}`)),
        nodePort: nodePort !== undefined && isFree(takenPorts, `*/${protocol}/${nodePort}`) ? nodePort : undefined,
      };
    });
}

export function renderRuleset(wanted: readonly PortRule[], { table, podCidr, serviceCidr }: RulesetOptions): string {
  const rules = undisputed(wanted);
  const served = rules.filter(({ targets }) => targets.length > 0);
  const unserved = rules.filter(({ targets }) => targets.length === 0);
  const intake = (rule: PortRule) => rule.addresses.map((address) => `${address} . ${rule.protocol} . ${rule.port}`);
  const nodePort = (rule: PortRule) => (rule.nodePort === undefined ? [] : [`${rule.protocol} . ${rule.nodePort}`]);
  const goto = (match: string, { id }: PortRule) => `${match} : goto svc_${id}`;
  const selves = [...new Set(served.flatMap(({ targets }) => targets.map(({ address }) => `${address} . ${address}`)))];
  const dispatch = [
    'ip daddr . meta l4proto . th dport vmap @services',
    'fib daddr type local meta l4proto . th dport vmap @nodeports',
  ];
  const refuse = [
    'ip daddr . meta l4proto . th dport @unserved reject',
    'fib daddr type local meta l4proto . th dport @unservednodeports reject',
  ];
  return [
    // Adding it first makes the deletion succeed whether or not the table is there; all of it is one transaction.
    `add table ip ${table}`,
    `delete table ip ${table}`,
    `table ip ${table} {`,
    ...served.map(serviceChain),
    block('map', 'services', [
      'type ipv4_addr . inet_proto . inet_service : verdict',
      ...elements(served.flatMap((rule) => intake(rule).map((match) => goto(match, rule)))),
    ]),
    block('map', 'nodeports', [
      'type inet_proto . inet_service : verdict',
      ...elements(served.flatMap((rule) => nodePort(rule).map((match) => goto(match, rule)))),
    ]),
    block('set', 'unserved', ['type ipv4_addr . inet_proto . inet_service', ...elements(unserved.flatMap(intake))]),
    block('set', 'unservednodeports', ['type inet_proto . inet_service', ...elements(unserved.flatMap(nodePort))]),
    block('set', 'selves', ['type ipv4_addr . ipv4_addr', ...elements(selves)]),
    block('chain', 'dispatch', dispatch),
    block('chain', 'prerouting', ['type nat hook prerouting priority dstnat; policy accept;', 'jump dispatch']),
    block('chain', 'output', ['type nat hook output priority -100; policy accept;', 'jump dispatch']),
    block('chain', 'postrouting', [
      'type nat hook postrouting priority srcnat; policy accept;',
      // A pod that reaches itself, and a process of the host that asked its loopback address, must see the answer come back through here.
      'ct status dnat ip saddr . ip daddr @selves masquerade',
      'ct status dnat ip saddr 127.0.0.0/8 masquerade',
      `ct status dnat ip saddr != ${podCidr} ip daddr ${podCidr} masquerade`,
    ]),
    // What still goes to a Service's address after its turn has no Service, or one without anybody behind it. Refused here, before the kernel looks for a way: there may be none.
    block('chain', 'refuse_strays', [
      'type filter hook prerouting priority -99; policy accept;',
      `ip daddr ${serviceCidr} reject`,
    ]),
    block('chain', 'refuse_own_strays', [
      'type filter hook output priority -99; policy accept;',
      `ip daddr ${serviceCidr} reject`,
    ]),
    block('chain', 'refuse_forwarded', ['type filter hook forward priority -1; policy accept;', refuse[0] ?? '']),
    block('chain', 'refuse_outgoing', ['type filter hook output priority -1; policy accept;', ...refuse]),
    block('chain', 'refuse_incoming', ['type filter hook input priority -1; policy accept;', ...refuse]),
    '}',
    '',
  ].join('\n');
}
