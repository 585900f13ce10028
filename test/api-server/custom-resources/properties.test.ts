/**
 * What holds of custom kinds whatever their schema.
 */
import fc from 'fast-check';
import t from 'tap';
import type { Json } from '../api.ts';
import { crd, crontab, faultsOf, kindOf, object, written } from './custom-kinds.ts';

t.test('of any schema: pruning and defaulting twice is once, and what was accepted is accepted again', async (t) => {
  const leaf = fc.oneof(
    fc.constant({ type: 'string' }),
    fc.constant({ type: 'string', default: 'd' }),
    fc.constant({ type: 'string', nullable: true, default: 'n' }),
    fc.constant({ type: 'integer', minimum: 0 }),
    fc.constant({ type: 'integer', default: 7 }),
    fc.constant({ type: 'boolean', default: false }),
    fc.constant({ 'x-kubernetes-int-or-string': true }),
    fc.constant({ 'x-kubernetes-preserve-unknown-fields': true }),
  );
  const NAMES = ['a', 'b', 'c', 'constructor', 'x-y'] as const;
  const names = fc.constantFrom(...NAMES);
  const schema: fc.Arbitrary<Json> = fc.letrec((tie) => ({
    node: fc.oneof(
      { maxDepth: 4, depthSize: 'small' },
      leaf,
      fc.dictionary(names, tie('node'), { maxKeys: 4 }).map((properties) => object(properties)),
      fc
        .dictionary(names, tie('node'), { maxKeys: 3 })
        .map((properties) => object(properties, { 'x-kubernetes-preserve-unknown-fields': true })),
      fc.dictionary(names, tie('node'), { maxKeys: 3 }).map((properties) => object(properties, { default: {} })),
      tie('node').map((items) => ({ type: 'array', items })),
      tie('node').map((additionalProperties) => ({ type: 'object', additionalProperties })),
    ),
  })).node;
  const value = fc.jsonValue({ maxDepth: 4 }) as fc.Arbitrary<Json>;
  const fitting = fc.dictionary(fc.constantFrom(...NAMES, 'other'), value, { maxKeys: 5 });
  let accepted = 0;
  fc.assert(
    fc.property(schema, fc.oneof(fitting, value), (spec, given) => {
      const definition = crd({ spec });
      // A default may be no value of its own schema, and then the definition is refused.
      if (faultsOf(definition).length > 0) return;
      const kind = kindOf({ spec });
      const first = written(kind, crontab(given));
      const second = written(kind, first.object);
      const [once, twice] = [first.object, second.object].map((one: Json) => JSON.stringify(one));
      if (twice !== once) throw new Error(`${once} became ${twice}`);
      if (second.unknown.length > 0) throw new Error(`unknown at last: ${second.unknown.join(', ')}`);
      if (first.faults.length > 0) return;
      accepted++;
      if (second.faults.length > 0) throw new Error(second.faults.join(', '));
      const update = written(kind, first.object, first.object);
      if (update.faults.length > 0) throw new Error(update.faults.join(', '));
    }),
    { numRuns: 300 },
  );
  t.ok(accepted > 20, `${accepted} objects were accepted`);
});
