/**
 * The contract of the event log: append with a guard, follow in order, never lose or double a write. `jetstream.ts` beside it is the one
 * implementation; the API server writes and follows through it, the projection, controllers and custom consumers only follow.
 */

/** Names one object. `group` is `''` for core, `namespace` is `''` for cluster-scoped objects. */
export interface ObjectKey {
  readonly group: string;
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
}

/** `desired`: anything but status alone has changed. `observed`: status alone. The ephemeral stream has only `desired`. */
export type Plane = 'desired' | 'observed';

export type Verb = 'create' | 'update' | 'patch' | 'apply' | 'delete';

/** One change to one object, before it has a sequence. */
export interface Write {
  readonly key: ObjectKey;
  readonly plane: Plane;
  readonly verb: Verb;
  readonly uid: string;
  /** The sequence of the object's newest record that the writer has seen, tombstones included; 0 when it has none. */
  readonly guard: number;
  /** The whole object as JSON, without `resourceVersion`; for a delete, the final object. */
  readonly object: string;
  /** Who asked, such as `admin` or `system:controller:deployments`. */
  readonly actor: string;
  readonly requestId: string;
  /** RFC 3339 with milliseconds. */
  readonly time: string;
  /** Sequences that this change answers to; at most `MAX_CAUSES`. */
  readonly causes: readonly number[];
  readonly reason?: Reason;
  /** Ephemeral stream only: the record expires this long after it was written. */
  readonly ttlSeconds?: number;
}

export const MAX_CAUSES = 8;

/** Members of a transaction on a server that says nothing of it: JetStream's own limit of an atomic batch (ADR-50). A server may be told another (`jetstream.limits.batch.max_msgs`); it does not tell it. */
export const DEFAULT_MAX_TRANSACTION = 1_000;

/** Why a change was made, in the words of whoever made it; nothing is decided by it. */
export interface Reason {
  /** A sentence: what a controller decided, what a person was about. */
  readonly because?: string;
  /** What the change was made from, such as a file and its digest: `shop/web.yaml sha256:…`. */
  readonly source?: string;
}

/** Characters of each part of a reason. */
export const MAX_REASON_LENGTH = 1_024;

/** One record as it stands in the stream. */
export interface LogRecord {
  readonly sequence: number;
  readonly key: ObjectKey;
  readonly plane: Plane;
  readonly verb: Verb;
  readonly uid: string;
  readonly writeId: string;
  readonly actor: string;
  readonly requestId: string;
  readonly time: string;
  readonly causes: readonly number[];
  /** Absent where nobody gave one. */
  readonly reason?: Reason;
  /** Present on members of a transaction; `place` counts from 1. */
  readonly transaction?: { readonly id: string; readonly place: number; readonly count: number };
  /** The object's JSON, undecoded. Empty only where an ephemeral record expired by itself. */
  readonly object: Uint8Array;
}

export interface Appended {
  readonly sequence: number;
}

/** What a follower yields: some records in log order, then where it stands. */
export interface Followed {
  /** `reset`: the cursor lay below the retention floor; what follows is a fresh snapshot, drop what you had. */
  readonly kind: 'records' | 'reset';
  readonly records: readonly LogRecord[];
  /** Everything that matches the filter up to here has been delivered, and here is no middle of a transaction. */
  readonly position: number;
  /** True once nothing is pending: a cache filled from a snapshot is complete at the first `caughtUp`. Stays true afterwards unless it falls far behind. */
  readonly caughtUp: boolean;
}

export interface FollowFilter {
  /** `*`: every one. */
  readonly group: string;
  /** `*`: every one. */
  readonly resource: string;
  /** Absent: every namespace. */
  readonly namespace?: string;
  /** Absent: both planes. */
  readonly plane?: Plane;
}

/** Who follows, so that others can see how far he has come. */
export interface FollowerName {
  /** What is done with the records: `deployments`, `projection`; several where they share one view of the log. */
  readonly names: readonly string[];
  /** Which process it is; unique. */
  readonly process: string;
}

/** Of several that could act, the one that does; or one of those that wait to. */
export type FollowerRole = 'leads' | 'standby';

/** What a follower says of itself when somebody asks. */
export interface FollowerReport {
  readonly name: string;
  /** Absent where every process of that name acts. */
  readonly role?: FollowerRole;
  /** Everything that the log has brought it up to here is in its hands. */
  readonly seen: number;
  /** The oldest record in its hands that it has not dealt with; absent: it has dealt with all. */
  readonly owes?: number;
  /** How many of its keys failed when they were last tried. */
  readonly failing?: number;
  /** A sentence, where it cannot go on. */
  readonly fault?: string;
}

/** Somebody who follows, by what he says of himself and what the log's server knows of him. */
export interface Follower {
  readonly name: string;
  readonly process: string;
  /** Absent too where he does not answer. */
  readonly role?: FollowerRole;
  /** Everything that concerns him up to here has reached him; of one who does not answer: has been sent to him. */
  readonly seen: number;
  /** And has been dealt with at least once. Absent for who waits to lead, and for who does not answer. */
  readonly done?: number;
  readonly failing: number;
  /** He answered when he was asked. */
  readonly answers: boolean;
  /** The log's server knows that he is there and asks for more. */
  readonly isListening: boolean;
  readonly fault?: string;
}

export interface FollowOptions {
  /** `snapshot`: the newest record of every object (per plane; the greater sequence is the object), then what comes. `{ after }`: resume a cursor. */
  readonly from: 'snapshot' | { readonly after: number };
  /** Absent: everything. */
  readonly filters?: readonly FollowFilter[];
  /** Shown to whoever asks who follows. */
  readonly follower?: FollowerName | undefined;
  /** Ends the iteration. */
  readonly signal: AbortSignal;
  /** A record that could not be read; it is passed over. */
  readonly onUnreadable?: (sequence: number, reason: string) => void;
}

export interface LogReader {
  /** Endless; survives reconnects and server restarts by itself. Records of this instance's own batches are withheld until they are acknowledged. */
  follow(options: FollowOptions): AsyncIterable<Followed>;
  /** The stream's last sequence, read from its leader after the call began (concurrent calls share one read). Rejects with LogUnavailableError. */
  lastSequence(): Promise<number>;
  /** The lowest sequence from which the log is complete; 1 when nothing was trimmed. */
  floor(): Promise<number>;
  /** The record at a sequence, or undefined where it was trimmed or never was. */
  recordAt(sequence: number): Promise<LogRecord | undefined>;
  /** The newest record of an object over both planes, tombstones included. */
  newest(key: ObjectKey): Promise<LogRecord | undefined>;
  /** Says how far the followers of this process have come, to whoever asks, until it is stopped. Nothing is sent unasked. */
  answerFollowers(process: string, reports: () => readonly FollowerReport[]): () => void;
  /** Asks who follows and how far each has come. Only whoever may publish to the log gets answers. Rejects with LogUnavailableError. */
  followers(): Promise<readonly Follower[]>;
}

export interface EventLog extends LogReader {
  /** So many members a transaction may have; more reject with TooLargeError. */
  readonly maxTransaction: number;
  /**
   * Durable when it resolves. Rejects with GuardError when the object has a newer record, TooLargeError when the record exceeds the stream's limit, and
   * LogUnavailableError when the log could not be reached or the outcome could not be settled in time (then the write may or may not stand).
   */
  append(write: Write): Promise<Appended>;
  /** All or none, contiguous. Rejects as `append` does; GuardError names the first refused member by `place`. */
  transaction(writes: readonly Write[]): Promise<readonly Appended[]>;
}

/** The object has a newer record than the guard: the caller's 409 Conflict. */
export class GuardError extends Error {
  override readonly name = 'GuardError';
  readonly key: ObjectKey;
  readonly place: number;
  constructor(key: ObjectKey, place = 1) {
    super('the object has a newer record than the writer has seen');
    this.key = key;
    this.place = place;
  }
}

/** The log cannot be reached or did not answer in time: the caller's 503 with Retry-After. */
export class LogUnavailableError extends Error {
  override readonly name = 'LogUnavailableError';
}

/** The record, or the transaction, exceeds a limit of the log: the caller's 413. */
export class TooLargeError extends Error {
  override readonly name = 'TooLargeError';
}
