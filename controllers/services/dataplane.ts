/**
 * The node's kernel: holds what every Service calls for, and loads all of it as one table. Changes that come together are loaded together; the table is loaded again from time to time, and so
 * mended if somebody has touched it. Connections that stand keep their target, as the kernel tracks them; so does a UDP client that goes on sending from one port to a pod that is gone, until it
 * pauses for half a minute (Kubernetes ends such flows by hand; we do not).
 */
import { spawn } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from '../../sdk/index.ts';
import { renderRuleset, type RulesetOptions } from './ruleset.ts';
import type { PortRule } from './service-rules.ts';

export interface DataplaneOptions extends RulesetOptions {
  /** The bridge of the pods' network. */
  readonly bridge: () => string | undefined;
  readonly logger: Logger;
  /** Gives the kernel a script; for tests. */
  readonly nft?: (script: string) => Promise<void>;
}

const GATHER_MS = 15;
const RELOAD_MS = 30_000;
const COMMAND_TIMEOUT_MS = 10_000;

export class Dataplane {
  readonly #options: DataplaneOptions;
  readonly #rules = new Map<string, readonly PortRule[]>();
  /** The load that is about to begin, for all who come until then. */
  #gathering: Promise<void> | undefined;
  /** The load that runs. One after the other: an older text must never come last. */
  #running: Promise<void> = Promise.resolve();
  #reloader: NodeJS.Timeout | undefined;

  constructor(options: DataplaneOptions) {
    this.#options = options;
  }

  installed(service: string): readonly PortRule[] {
    return this.#rules.get(service) ?? [];
  }

  /** Takes over everything at once, so that a restart never leaves the node with less than it had. */
  async start(rules: ReadonlyMap<string, readonly PortRule[]>): Promise<void> {
    for (const [service, wanted] of rules) if (wanted.length > 0) this.#rules.set(service, wanted);
    await this.#load();
    this.#reloader = setInterval(
      () =>
        void this.#load().catch((error: unknown) =>
          this.#options.logger.error({ err: error }, 'the service rules could not be loaded'),
        ),
      RELOAD_MS,
    );
  }

  /** Resolves when the kernel has it. Rejects with what nft said. */
  async install(service: string, rules: readonly PortRule[]): Promise<void> {
    const before = this.#rules.get(service);
    if (rules.length > 0) this.#rules.set(service, rules);
    else this.#rules.delete(service);
    try {
      await this.#soon();
    } catch (error) {
      if (before) this.#rules.set(service, before);
      else this.#rules.delete(service);
      throw error;
    }
  }

  /** The rules stay: the pods go on serving while the controller is away. */
  stop(): void {
    clearInterval(this.#reloader);
  }

  #soon(): Promise<void> {
    this.#gathering ??= sleep(GATHER_MS).then(() => {
      this.#gathering = undefined;
      return this.#load();
    });
    return this.#gathering;
  }

  #load(): Promise<void> {
    const load = this.#running.then(async () => {
      await this.#openBridge();
      await (this.#options.nft ?? nft)(renderRuleset([...this.#rules.values()].flat(), this.#options));
    });
    this.#running = load.catch(() => undefined);
    return load;
  }

  /** Lets a pod reach itself through its Service, the host's loopback reach pods through node ports, and answers between pods come back through the node. */
  async #openBridge(): Promise<void> {
    const { bridge: findBridge, serviceCidr, logger } = this.#options;
    const bridge = findBridge();
    if (bridge === undefined) return;
    // Without a route the kernel would give up before the rules are asked, on a machine that has no default route; with one, nothing for a Service ever leaves the machine.
    if (!hasRoute(bridge, serviceCidr)) {
      await command('ip', ['route', 'replace', serviceCidr, 'dev', bridge]).catch((error: unknown) =>
        logger.warn({ err: error, bridge }, 'the Services could not be given a route'),
      );
    }
    const ports = `/sys/class/net/${bridge}/brif`;
    const files = [
      `/proc/sys/net/ipv4/conf/${bridge}/route_localnet`,
      `/sys/class/net/${bridge}/bridge/nf_call_iptables`,
      ...(existsSync(ports) ? readdirSync(ports).map((port) => `${ports}/${port}/hairpin_mode`) : []),
    ];
    for (const file of files) {
      try {
        writeFileSync(file, '1');
      } catch (error) {
        // A container that has just ended takes its port with it.
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') continue;
        logger.warn(
          { err: error, file },
          'the bridge could not be opened; pods may not reach themselves through their Services',
        );
      }
    }
  }
}

function hasRoute(device: string, cidr: string): boolean {
  const [network = ''] = cidr.split('/');
  // The kernel writes the address backwards, as it lies in memory.
  const bytes = network.split('.').map((part) => Number(part).toString(16).padStart(2, '0'));
  const wanted = `${device}\t${bytes.reverse().join('').toUpperCase()}\t`;
  return readFileSync('/proc/net/route', 'utf8')
    .split('\n')
    .some((line) => line.startsWith(wanted));
}

const nft = (script: string): Promise<void> => command('nft', ['-f', '-'], script);

function command(file: string, args: readonly string[], input = ''): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: ['pipe', 'ignore', 'pipe'],
      timeout: COMMAND_TIMEOUT_MS,
      env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` },
    });
    let complaint = '';
    child.stderr.on('data', (chunk: Buffer) => (complaint = (complaint + chunk.toString()).slice(0, 2000)));
    child.on('error', reject);
    child.stdin.on('error', () => undefined);
    child.on('close', (code, signal) =>
      code === 0 ? resolve() : reject(new Error(`${file} refused (${signal ?? code}): ${complaint.trim()}`)),
    );
    child.stdin.end(input);
  });
}
