/**
 * What a requirement of this machine is: a program or service that Reckon needs, how to find it and how to bring it. One file a requirement beside this one;
 * `set-up.ts` goes through them.
 */

export interface SetUpContext {
  /** Where downloaded programs are kept, shared by every instance of this user on this machine. */
  readonly cacheFolder: string;
  /** One line for a person. */
  say(line: string): void;
}

export interface Requirement<Found> {
  /** As it is called in a line for a person: `nats-server`. */
  readonly name: string;
  /** Undefined when it is not there, or too old. */
  find(context: SetUpContext): Promise<Found | undefined>;
  /** In a few words: version, place. */
  describe(found: Found): string;
  /** Debian packages by which root brings it, from the machine's own sources. */
  readonly packages?: readonly string[];
  /** Brings it without the system's package manager, or starts what the packages brought. */
  install?(context: SetUpContext): Promise<void>;
  /** The sentence for a person when it is neither there nor could be brought: what is missing and how to get it. */
  readonly otherwise: string;
}

/** Set-up cannot go on; the message is a sentence (or the one command to run) for a person, and needs no stack. */
export class SetUpError extends Error {
  override readonly name = 'SetUpError';
}
