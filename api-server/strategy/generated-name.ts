/** The random ends of generated names: five letters and digits that make no words. Used by `verbs/create.ts` for `generateName`, and where the server itself names something. */
import { randomInt } from 'node:crypto';

const ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';
const LENGTH = 5;

export const suffix = (): string => Array.from({ length: LENGTH }, () => ALPHABET[randomInt(ALPHABET.length)]).join('');
