/**
 * What the node agent knows about one pod when it decides, and what it can decide to do. Both are plain data: `observe.ts` fills the first, `reconcile.ts` turns it
 * into the second, `operations.ts` carries that out.
 */
import type { Pod } from '../../api-schemas/types/core-v1.ts';
import type { Container } from '../../runtime/container-runtime.ts';
import type { ApiAction } from '../../sdk/controller.ts';
import type { Role } from './labels.ts';

/** What became of the last attempt at something, or that one is under way. */
export interface Attempted {
  readonly inFlight: boolean;
  readonly failure?: {
    readonly reason: string;
    readonly message: string;
    readonly count: number;
    readonly atMs: number;
  };
}

export type ProbeKind = 'startup' | 'liveness' | 'readiness';

/** The memory of one probe of one container. `result` is what stands after the thresholds; absent until one was crossed. */
export interface ProbeState {
  readonly inFlight: boolean;
  readonly startedAtMs: number;
  readonly successes: number;
  readonly failures: number;
  readonly result?: 'success' | 'failure';
  readonly message?: string;
}

export interface HookState {
  readonly state: 'running' | 'done' | 'failed';
  readonly message?: string;
}

export interface SignalSent {
  readonly signal: 'stop' | 'kill';
  readonly atMs: number;
}

export interface ObservedContainer extends Container {
  /** What it left at its `terminationMessagePath`, once it has ended. */
  readonly terminationMessage?: string;
  /** It is just being started. */
  readonly starting?: boolean;
}

/** Of one container of the pod: whether it could be made now. */
export interface Preparation {
  readonly image: 'present' | 'absent' | 'unknown';
  /** What the status says of the image: its digest, or its id. */
  readonly imageId?: string;
  /** An `Always` pull for this attempt has been done. */
  readonly pulledForAttempt?: number;
  readonly pull: Attempted;
  /** A reference that cannot be resolved, such as `configmap "x" not found`. */
  readonly configError?: { readonly reason: string; readonly message: string };
}

export interface Observed {
  readonly nowMs: number;
  readonly nodeName: string;
  readonly hostAddresses: readonly string[];
  /** False: the pod is gone, or is another node's; only what is left of it is to be removed. */
  readonly present: boolean;
  /** False while the engine does not answer: then nothing is decided. */
  readonly runtimeAvailable: boolean;
  /** Every container of this namespace and name, of former pods of the name too. */
  readonly containers: readonly ObservedContainer[];
  /** By container name: making and starting. `POD` is the sandbox. */
  readonly starts: Readonly<Record<string, Attempted>>;
  /** By container name. */
  readonly preparations: Readonly<Record<string, Preparation>>;
  /** The pod's volumes taken together. */
  readonly volumes: {
    readonly ready: boolean;
    readonly stale: boolean;
    /** When a token that is shown is to be replaced. */
    readonly renewAtMs?: number;
    readonly work: Attempted;
    readonly problem?: string;
  };
  /** By container id. */
  readonly removals: Readonly<Record<string, Attempted>>;
  readonly signals: Readonly<Record<string, SignalSent>>;
  /** By `<container id>/<hook>`. */
  readonly hooks: Readonly<Record<string, HookState>>;
  /** By `<container id>/<probe>`. */
  readonly probes: Readonly<Record<string, ProbeState>>;
  /** The pod's address on the node's network. */
  readonly address?: string;
  /** uids of this name for which files lie on the node. */
  readonly dataOf: readonly string[];
  readonly dataRemoval: Attempted;
}

interface OfPod {
  readonly uid: string;
  readonly because: string;
}

export type RuntimeAction =
  | (OfPod & { readonly verb: 'prepare-volumes' })
  | (OfPod & {
      readonly verb: 'pull-image';
      readonly container: string;
      readonly image: string;
      readonly attempt: number;
    })
  | (OfPod & {
      readonly verb: 'start-container';
      readonly container: string;
      readonly role: Role;
      readonly attempt: number;
      /** Wait this long after this attempt ends before the next. */
      readonly restartDelayMs: number;
    })
  | (OfPod & {
      readonly verb: 'signal-container';
      readonly container: string;
      readonly containerId: string;
      readonly signal: 'stop' | 'kill';
    })
  | (OfPod & { readonly verb: 'remove-container'; readonly container: string; readonly containerId: string })
  | (OfPod & {
      readonly verb: 'run-hook';
      readonly container: string;
      readonly containerId: string;
      readonly hook: 'postStart' | 'preStop';
      readonly timeoutMs: number;
    })
  | (OfPod & {
      readonly verb: 'run-probe';
      readonly routine: true;
      readonly container: string;
      readonly containerId: string;
      readonly probe: ProbeKind;
    })
  | (OfPod & { readonly verb: 'remove-data' });

export type PodAction = RuntimeAction | ApiAction;

export const POD_RESOURCE = { group: '', version: 'v1', resource: 'pods' } as const;

export type { Pod };
