/** A plan in the making: actions in order, and the earliest time to look again. Used by the planning files beside it. */
import type { ApiAction } from '../../sdk/controller.ts';
import type { Attempted, Observed, Pod, PodAction } from './observation.ts';

/** Retries of work that failed: 1 s, doubling to a minute. */
const FIRST_RETRY_MS = 1_000;
const LAST_RETRY_MS = 60_000;

export class Draft {
  readonly actions: PodAction[] = [];
  readonly nowMs: number;
  readonly #pod: Pod;
  #lookAgainAtMs = Number.POSITIVE_INFINITY;

  constructor(pod: Pod, observed: Observed) {
    this.#pod = pod;
    this.nowMs = observed.nowMs;
  }

  act(action: PodAction): void {
    this.actions.push(action);
  }

  event(type: 'Normal' | 'Warning', reason: string, message: string): void {
    const action: ApiAction = { verb: 'event', about: this.#pod, type, reason, message, because: message };
    this.actions.push(action);
  }

  /** Has the pod observed again at this time at the latest. */
  lookAgainAt(timeMs: number): void {
    this.#lookAgainAtMs = Math.min(this.#lookAgainAtMs, timeMs);
  }

  get requeueAfterMs(): number | undefined {
    return Number.isFinite(this.#lookAgainAtMs) ? Math.max(10, Math.ceil(this.#lookAgainAtMs - this.nowMs)) : undefined;
  }

  /** Whether work may be begun: it is not under way, and not resting after a failure. */
  mayBegin(work: Attempted | undefined): boolean {
    if (work === undefined) return true;
    if (work.inFlight) return false;
    if (work.failure === undefined) return true;
    const restUntilMs = work.failure.atMs + Math.min(LAST_RETRY_MS, FIRST_RETRY_MS * 2 ** (work.failure.count - 1));
    if (restUntilMs <= this.nowMs) return true;
    this.lookAgainAt(restUntilMs);
    return false;
  }
}
