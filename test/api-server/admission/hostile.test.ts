/** Whatever a body holds, admission answers with faults and never throws, and no object but the body is touched. */
import fc from 'fast-check';
import t from 'tap';
import { loadRegistry } from '../../../api-schemas/registry.ts';
import type { ApiObject, Schema } from '../../../api-schemas/schema.ts';
import { applyDefaults } from '../../../api-server/admission/defaults.ts';
import { pruneUnknown } from '../../../api-server/admission/prune.ts';
import { validate } from '../../../api-server/admission/validate.ts';

const registry = loadRegistry();
const ODD = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '', 'a b', 'é', 'x'.repeat(300), '-', '🙂'];
const oddText = fc.oneof(
  fc.constantFrom(...ODD),
  fc.string(),
  fc.constantFrom('0', '1Gi', '-1', '200%', '1e999', '2024-01-01T00:00:00Z', '10.0.0.1'),
);
const anyJson = fc.jsonValue({ maxDepth: 2 });

/** Mostly of the right type, so that the faults lie deep; sometimes anything at all. */
function nearly(schema: Schema, depth: number): fc.Arbitrary<unknown> {
  const right = ((): fc.Arbitrary<unknown> => {
    if (schema.enum) return fc.oneof(fc.constantFrom(...schema.enum), oddText);
    switch (schema.type) {
      case 'string':
        return oddText;
      case 'integer':
      case 'number':
        return fc.oneof(fc.integer({ min: -2, max: 3 }), fc.integer());
      case 'boolean':
        return fc.boolean();
      case 'array':
        return fc.array(nearly(schema.items ?? {}, depth - 1), { maxLength: 3 });
      default:
    }
    if (typeof schema.additionalProperties === 'object')
      return fc.dictionary(oddText, nearly(schema.additionalProperties, depth - 1), { maxKeys: 3 });
    if (!schema.properties || depth <= 0) return oddText;
    const fields = Object.entries(schema.properties);
    return fc
      .subarray(fields, { maxLength: Math.min(fields.length, 12) })
      .chain((some) => fc.record(Object.fromEntries(some.map(([name, child]) => [name, nearly(child, depth - 1)]))));
  })();
  return fc.oneof({ weight: 40, arbitrary: right }, { weight: 1, arbitrary: anyJson });
}

t.test('random objects of every kind', (t) => {
  let judged = 0;
  for (const definition of registry.resources()) {
    const { schema, group, version, kind } = definition;
    fc.assert(
      fc.property(nearly(schema, 7), nearly(schema, 7), (first, second) => {
        const [object, old] = [first, second].map((body) => {
          const whole = typeof body === 'object' && body !== null && !Array.isArray(body) ? body : {};
          const sent = {
            metadata: { name: 'x' },
            ...whole,
            apiVersion: group === '' ? version : `${group}/${version}`,
            kind,
          } as unknown as ApiObject;
          return JSON.parse(JSON.stringify(sent)) as ApiObject;
        }) as [ApiObject, ApiObject];
        object.metadata ??= { name: 'x' };
        old.metadata ??= { name: 'x' };
        const [pruned, prunedOld] = [pruneUnknown(object, schema), pruneUnknown(old, schema)];
        if (pruned.mistyped.length > 0 || prunedOld.mistyped.length > 0) return;
        applyDefaults(object, schema);
        applyDefaults(old, schema);
        for (const fault of [...validate(object, undefined, definition), ...validate(object, old, definition)]) {
          if (typeof fault.field !== 'string' || fault.message === '' || !/^FieldValue/.test(fault.reason))
            throw new Error(JSON.stringify(fault));
        }
        const again = structuredClone(object);
        applyDefaults(again, schema);
        if (JSON.stringify(again) !== JSON.stringify(object))
          throw new Error(`defaults are not idempotent: ${JSON.stringify(object)}`);
        judged += 1;
      }),
      { numRuns: Number(process.env['RECKON_FUZZ_RUNS'] ?? 40) },
    );
  }
  t.ok(judged > 300, `${judged} objects were judged`);
  t.same(Object.keys(Object.prototype), []);
  t.end();
});

t.test('size costs time in proportion', (t) => {
  const definition = registry.byKind('apps', 'v1', 'Deployment');
  if (!definition) throw new Error('no Deployment');
  const containers = Array.from({ length: 2_000 }, (_, index) => ({
    name: `c${index % 500}`,
    image: '',
    env: [{ name: '=', value: 'x', valueFrom: {} }],
    bogus: 1,
    ports: [{ containerPort: index }],
  }));
  const object = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'x'.repeat(100_000), namespace: 'd', annotations: { a: 'x'.repeat(1_000_000) } },
    spec: {
      selector: { matchLabels: { a: 'b' } },
      template: { metadata: { labels: { a: 'b' } }, spec: { containers } },
    },
  } as unknown as ApiObject;
  const start = performance.now();
  const { unknown } = pruneUnknown(object, definition.schema);
  applyDefaults(object, definition.schema);
  const faults = validate(object, undefined, definition);
  t.equal(unknown.length, 100, 'as many as anybody reads');
  t.equal(faults.length, 100, 'here too');
  t.ok(
    faults.every(({ message }) => message.length < 2_000),
    'no message repeats the body',
  );
  t.ok(performance.now() - start < 4_000, `${Math.round(performance.now() - start)} ms`);
  t.end();
});
