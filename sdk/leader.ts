/**
 * Leader election over a Lease, as in Kubernetes (https://kubernetes.io/docs/concepts/architecture/leases/): any number of replicas of a controller run, one acts. A leader that cannot
 * renew stops acting before its lease runs out, and finds that out by a monotonic clock right before each write, so one that was paused finds out too. What no clock can take back is a
 * request that had left already when the process was paused: preconditions (uid, resourceVersion) and names that follow from what was observed make it harmless. Used by `run.ts`.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiObject } from '../api-schemas/schema.ts';
import { microTimestamp } from '../api-schemas/timestamps.ts';
import { ApiError, type Client } from './client.ts';
import type { ResourceRef } from './controller.ts';
import type { Logger } from './logger.ts';
import { isKnownDead } from './process-identity.ts';

export const LEASES: ResourceRef = { group: 'coordination.k8s.io', version: 'v1', resource: 'leases' };

export interface LeaseTimes {
  /** How long a lease stands after it was last seen to be renewed. */
  readonly leaseMs: number;
  /** A leader that has not renewed for this long stops acting; shorter than the lease. */
  readonly renewDeadlineMs: number;
  /** How often the others look, and a leader tries again after a failed renewal. */
  readonly retryMs: number;
}

export const KUBERNETES_LEASE_TIMES: LeaseTimes = { leaseMs: 15_000, renewDeadlineMs: 10_000, retryMs: 2_000 };

interface Lease extends ApiObject {
  spec?: {
    holderIdentity?: string;
    leaseDurationSeconds?: number;
    acquireTime?: string;
    renewTime?: string;
    leaseTransitions?: number;
  };
}

export interface LeaderOptions {
  readonly name: string;
  readonly namespace?: string;
  readonly identity: string;
  readonly client: Client;
  readonly logger: Logger;
  readonly times?: LeaseTimes;
}

export class Leader {
  readonly #options: LeaderOptions;
  readonly #times: LeaseTimes;
  /** The Lease as last read or written, and when that was seen to have changed, on the monotonic clock. */
  #seen: { readonly lease: Lease; readonly atMs: number } | undefined;
  /** When the last renewal that succeeded was begun; undefined while not leading. */
  #renewedAtMs: number | undefined;

  constructor(options: LeaderOptions) {
    this.#options = options;
    this.#times = options.times ?? KUBERNETES_LEASE_TIMES;
  }

  /** Whether a write may be sent now. Cheap: ask before each. */
  mayAct(): boolean {
    return this.#renewedAtMs !== undefined && performance.now() - this.#renewedAtMs < this.#times.renewDeadlineMs;
  }

  /** How long the lease surely stands: a write that has not been answered by then is given up, for a successor may act. */
  leaseLeftMs(): number {
    return this.#renewedAtMs === undefined
      ? 0
      : Math.max(0, this.#times.leaseMs - (performance.now() - this.#renewedAtMs));
  }

  /** Until the signal: waits to lead, then calls `lead`, whose signal ends when the lead is lost. The lease is released once `lead` has ended. */
  async run(signal: AbortSignal, lead: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const { logger, name, identity } = this.#options;
    while (!signal.aborted) {
      if (!(await this.#tryToHold())) {
        await pause(this.#times.retryMs * (1 + Math.random() * 0.2), signal);
        continue;
      }
      logger.info({ lease: name, identity }, 'leading');
      const lost = new AbortController();
      const leading = lead(AbortSignal.any([signal, lost.signal]));
      const ended = new AbortController();
      void leading.finally(() => ended.abort()).catch(() => undefined);
      // The lease is kept while the last actions end, so that nobody else acts meanwhile.
      await this.#renewUntil(ended.signal, lost);
      await leading;
      const stillHeld = this.mayAct();
      this.#renewedAtMs = undefined;
      if (stillHeld) await this.#release();
      logger.info({ lease: name, identity }, signal.aborted ? 'stopped leading' : 'lost the lead');
    }
  }

  async #renewUntil(ended: AbortSignal, lost: AbortController): Promise<void> {
    let renewed = true;
    while (!ended.aborted) {
      await pause(
        renewed ? Math.min(this.#times.leaseMs / 3, this.#times.renewDeadlineMs / 2) : this.#times.retryMs / 2,
        ended,
      );
      if (ended.aborted) return;
      renewed = lost.signal.aborted ? false : await this.#tryToHold();
      if (!this.mayAct() && !lost.signal.aborted) {
        this.#options.logger.warn({ lease: this.#options.name }, 'the lease could not be renewed in time; acting ends');
        lost.abort();
      }
    }
  }

  /** One attempt to acquire or renew. */
  async #tryToHold(): Promise<boolean> {
    const begunMs = performance.now();
    try {
      const signal = AbortSignal.timeout(this.#times.renewDeadlineMs / 2);
      // A leader knows the Lease as it wrote it: one compare-and-set renews it.
      const lease = this.#renewedAtMs === undefined || !this.#seen ? await this.#read(signal) : this.#seen.lease;
      const held = lease ? await this.#takeOver(lease, signal) : await this.#create(signal);
      if (held) {
        this.#renewedAtMs = begunMs;
        return true;
      }
      this.#renewedAtMs = undefined;
      return false;
    } catch (error) {
      this.#seen = this.#renewedAtMs === undefined ? this.#seen : undefined;
      const expected =
        error instanceof ApiError && (error.is('Conflict') || error.is('AlreadyExists') || error.is('NotFound'));
      this.#options.logger[expected ? 'debug' : 'warn'](
        { lease: this.#options.name, err: error },
        'an attempt to hold the lease failed',
      );
      return false;
    }
  }

  async #read(signal: AbortSignal): Promise<Lease | undefined> {
    const { client, name, namespace } = this.#options;
    try {
      const lease = await client.get<Lease>(
        { resource: LEASES, namespace: namespace ?? 'kube-system', name },
        { signal },
      );
      if (this.#seen?.lease.metadata.resourceVersion !== lease.metadata.resourceVersion)
        this.#seen = { lease, atMs: performance.now() };
      return lease;
    } catch (error) {
      if (error instanceof ApiError && error.is('NotFound')) return undefined;
      throw error;
    }
  }

  async #create(signal: AbortSignal): Promise<boolean> {
    const { client, name, namespace, identity } = this.#options;
    const object = {
      apiVersion: 'coordination.k8s.io/v1',
      kind: 'Lease',
      metadata: { name, namespace: namespace ?? 'kube-system' },
      spec: this.#spec(identity, undefined),
    };
    const lease = await client.create<Lease>(LEASES, object, { signal });
    this.#seen = { lease, atMs: performance.now() };
    return true;
  }

  async #takeOver(lease: Lease, signal: AbortSignal): Promise<boolean> {
    const { client, identity } = this.#options;
    const holder = lease.spec?.holderIdentity;
    if (holder && holder !== identity) {
      const durationMs = (lease.spec?.leaseDurationSeconds ?? this.#times.leaseMs / 1000) * 1000;
      const expired = this.#seen !== undefined && performance.now() - this.#seen.atMs >= durationMs;
      if (!expired && !isKnownDead(holder)) return false;
    }
    const updated = await client.update<Lease>(LEASES, { ...lease, spec: this.#spec(identity, lease) }, { signal });
    this.#seen = { lease: updated, atMs: performance.now() };
    return true;
  }

  #spec(identity: string, lease: Lease | undefined): NonNullable<Lease['spec']> {
    const now = microTimestamp(Date.now());
    const same = lease?.spec?.holderIdentity === identity;
    return {
      holderIdentity: identity,
      leaseDurationSeconds: Math.max(1, Math.ceil(this.#times.leaseMs / 1000)),
      acquireTime: (same && lease.spec?.acquireTime) || now,
      renewTime: now,
      leaseTransitions: (lease?.spec?.leaseTransitions ?? 0) + (lease && !same ? 1 : 0),
    };
  }

  /** So that a successor need not wait for the lease to run out. */
  async #release(): Promise<void> {
    const lease = this.#seen?.lease;
    if (!lease) return;
    try {
      await this.#options.client.update<Lease>(LEASES, {
        ...lease,
        spec: { ...lease.spec, holderIdentity: '', renewTime: microTimestamp(Date.now()) },
      });
    } catch (error) {
      this.#options.logger.debug(
        { lease: this.#options.name, err: error },
        'the lease could not be released; it runs out by itself',
      );
    }
  }
}

async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  await sleep(delayMs, undefined, { signal }).catch(() => undefined);
}
