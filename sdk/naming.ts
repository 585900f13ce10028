/**
 * Names that can be worked out again: a suffix is a hash of what was observed, never random, so a create whose outcome is unknown is repeated under the same name. Used by every
 * controller that creates objects.
 */
import { createHash } from 'node:crypto';

/** Kubernetes' suffix alphabet: no vowels and no look-alikes, so no suffix spells a word. */
const ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';

/** Kubernetes cuts the base of a generated name so that base and suffix fit a DNS label. */
const MAX_GENERATED_BASE = 58;

/** A suffix for these parts; equal parts give equal suffixes. */
export function deterministicSuffix(parts: readonly (string | number)[], length = 5): string {
  const digest = createHash('sha256').update(JSON.stringify(parts)).digest();
  let suffix = '';
  for (let index = 0; index < length; index++) suffix += ALPHABET[digest.readUInt16BE(index * 2) % ALPHABET.length];
  return suffix;
}

/** `base` and a suffix, as `generateName` would join them: `web-` gives `web-x7k2p`. */
export function deterministicName(base: string, parts: readonly (string | number)[], length = 5): string {
  return base.slice(0, MAX_GENERATED_BASE + 5 - length) + deterministicSuffix(parts, length);
}
