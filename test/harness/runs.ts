/**
 * How often a property is tried: a few times in `npm test`, many in `npm run prove`, which sets RECKON_PROVE_TIMES and, so that a run can be repeated, RECKON_PROVE_SEED. Imported by the tests that have properties.
 */
import fc from 'fast-check';

const times = Number(process.env['RECKON_PROVE_TIMES'] ?? 1);
const seed = process.env['RECKON_PROVE_SEED'];
if (seed !== undefined) fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(seed) });

/** `few`, or as many times more as the proof asks for. */
export const runs = (few: number): number => Math.round(few * times);
