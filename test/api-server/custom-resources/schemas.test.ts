/**
 * Structural schemas and the values that they judge, case by case and without a server; and what an old object is forgiven.
 */
import t from 'tap';
import type { Json } from '../api.ts';
import { crd, crontab, faultsOf, kindOf, object, SPEC, written } from './custom-kinds.ts';

t.test('schemas that are not structural, and where', async (t) => {
  const cases: [name: string, spec: Json, ...faults: (string | RegExp)[]][] = [
    [
      'a field without a type',
      { properties: { a: {} } },
      `${SPEC}.type: Required value: must not be empty for specified object fields`,
      `${SPEC}.properties[a].type: Required value: must not be empty for specified object fields`,
    ],
    [
      'a type that there is not',
      { type: 'text' },
      `${SPEC}.type: Unsupported value: "text": supported values: "array", "boolean", "integer", "number", "object", "string"`,
    ],
    [
      'items without a type',
      { type: 'array', items: { format: 'x' } },
      `${SPEC}.items.type: Required value: must not be empty for specified array items`,
    ],
    ['no items', { type: 'array' }, `${SPEC}.items: Required value: must be specified`],
    [
      'items in a row',
      { type: 'array', items: [{ type: 'string' }] },
      `${SPEC}.items: Forbidden: items must be a schema object and not an array`,
    ],
    ['references', { type: 'object', $ref: '#/a' }, `${SPEC}.$ref: Forbidden: $ref is not supported`],
    ['unique items', { type: 'array', uniqueItems: true, items: { type: 'string' } }, /uniqueItems: Forbidden/],
    [
      'closed maps',
      { type: 'object', additionalProperties: false },
      `${SPEC}.additionalProperties: Forbidden: additionalProperties cannot be set to false`,
    ],
    [
      'a map that is a struct',
      object({ a: { type: 'string' } }, { additionalProperties: { type: 'string' } }),
      /additionalProperties and properties are mutual exclusive/,
    ],
    ['preserve: false', { type: 'object', 'x-kubernetes-preserve-unknown-fields': false }, /must be true or undefined/],
    [
      'int or string with a type',
      { type: 'integer', 'x-kubernetes-int-or-string': true },
      `${SPEC}.type: Invalid value: "integer": must be empty if x-kubernetes-int-or-string is true`,
    ],
    [
      'an embedded object without fields',
      { type: 'object', 'x-kubernetes-embedded-resource': true },
      /properties: Required value: must not be empty if x-kubernetes-embedded-resource/,
    ],
    [
      'a condition with a type',
      object({ a: { type: 'string' } }, { anyOf: [{ properties: { a: { type: 'string' } } }] }),
      `${SPEC}.anyOf[0].properties[a].type: Forbidden: must be empty to be structural`,
    ],
    [
      'a condition on what is nowhere else',
      { type: 'object', not: { properties: { b: { minLength: 1 } } } },
      `${SPEC}.not.properties[b]: Required value: must be specified outside of allOf, anyOf, oneOf and not as well, to be structural`,
    ],
    [
      'a pattern that is none',
      { type: 'string', pattern: '(' },
      `${SPEC}.pattern: Invalid value: "(": must be a valid regular expression, but isn't: error parsing regexp: missing closing ): \`(\``,
    ],
    ['a pattern that looks ahead', { type: 'string', pattern: '(?=a)' }, /must be a valid regular expression/],
    ['a pattern without end', { type: 'string', pattern: 'a'.repeat(20_000) }, /it is longer than 16384 characters/],
    [
      'a list type that there is not',
      { type: 'array', items: { type: 'string' }, 'x-kubernetes-list-type': 'bag' },
      `${SPEC}.x-kubernetes-list-type: Unsupported value: "bag": supported values: "atomic", "map", "set"`,
    ],
    [
      'a keyed list without keys',
      { type: 'array', items: object({}), 'x-kubernetes-list-type': 'map' },
      `${SPEC}.x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map`,
    ],
    [
      'a key that may be absent',
      {
        type: 'array',
        items: object({ a: { type: 'string' } }),
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': ['a', 'b'],
      },
      /properties\[a\].default: Required value: this property is in x-kubernetes-list-map-keys/,
      /x-kubernetes-list-map-keys\[1\]: Invalid value: "b": entries must all be names of item properties/,
    ],
    [
      'a set of structs',
      { type: 'array', items: object({ a: { type: 'string' } }), 'x-kubernetes-list-type': 'set' },
      /items of a set must be scalars/,
    ],
    [
      'a map type on a list',
      { type: 'array', items: { type: 'string' }, 'x-kubernetes-map-type': 'atomic' },
      /must be object if x-kubernetes-map-type is specified/,
    ],
    [
      'a default of another type',
      { type: 'integer', default: 'x' },
      `${SPEC}.default: Invalid value: "string": ${SPEC}.default in body must be of type integer: "string"`,
    ],
    [
      'a default that would be pruned',
      object({ a: { type: 'string' } }, { default: { b: 1 } }),
      /has a field that the schema does not: b/,
    ],
    [
      'a default that is null',
      { type: 'string', default: null },
      `${SPEC}.default: Invalid value: null: must not be null`,
    ],
  ];
  for (const [name, spec, ...expected] of cases) {
    const faults = faultsOf(crd({ spec }));
    t.equal(faults.length, expected.length, `${name}: ${faults.join(' | ')}`);
    for (const [index, one] of expected.entries())
      t.ok(
        typeof one === 'string' ? faults[index] === one : one.test(faults[index] ?? ''),
        `${name}: ${faults[index]}`,
      );
  }
  t.same(
    faultsOf(crd({ spec: { 'x-kubernetes-int-or-string': true, anyOf: [{ type: 'integer' }, { type: 'string' }] } })),
    [],
    'the one condition that may name types',
  );
  t.same(
    faultsOf(
      crd({
        spec: object(
          { a: { type: 'string' }, b: { type: 'string' } },
          { oneOf: [{ required: ['a'] }, { required: ['b'] }] },
        ),
      }),
    ),
    [],
  );
});

t.test('values', async (t) => {
  const kind = kindOf({
    spec: object({
      text: { type: 'string', minLength: 2, maxLength: 4 },
      colour: { type: 'string', enum: ['red', 'blue'] },
      share: { type: 'number', minimum: 0, exclusiveMinimum: true, maximum: 1, multipleOf: 0.1 },
      count: { type: 'integer', format: 'int32' },
      port: { 'x-kubernetes-int-or-string': true },
      maybe: { type: 'string', nullable: true },
      address: { type: 'string', format: 'ipv4' },
      day: { type: 'string', format: 'date' },
      free: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true, properties: { known: object({}) } },
      any: { 'x-kubernetes-preserve-unknown-fields': true },
      labels: { type: 'object', additionalProperties: { type: 'string' }, maxProperties: 1 },
      list: { type: 'array', minItems: 1, maxItems: 2, items: { type: 'integer' } },
      choice: object(
        { a: { type: 'string' }, b: { type: 'string' } },
        { oneOf: [{ required: ['a'] }, { required: ['b'] }] },
      ),
      pod: { type: 'object', 'x-kubernetes-embedded-resource': true, 'x-kubernetes-preserve-unknown-fields': true },
      strange: { type: 'string', format: 'nobody-knows' },
    }),
  });
  const good = {
    text: 'a\u{1F600}b',
    colour: 'red',
    share: 0.3,
    count: 5,
    port: 'http',
    maybe: null,
    address: '10.0.0.1',
    day: '2024-02-29',
    free: { anything: [1], known: {} },
    any: [{ a: null }],
    labels: { a: 'b' },
    list: [1],
    choice: { a: 'x' },
    pod: { apiVersion: 'v1', kind: 'Pod', metadata: { labels: { a: 'b' } }, spec: {} },
    strange: 'x',
  };
  t.same(written(kind, crontab(good)).faults, []);
  t.same(written(kind, crontab(good)).object.spec, good);
  const cases: [field: string, value: Json, fault: RegExp][] = [
    ['text', 'a', /spec.text in body should be at least 2 chars long/],
    ['text', 'abcde', /Too long/],
    ['colour', 'green', /Unsupported value: "green": supported values: "red", "blue"/],
    ['share', 0, /should be greater than 0/],
    ['share', 0.25, /should be a multiple of 0.1/],
    ['count', 1.5, /must be of type integer: "number"/],
    ['count', 3e9, /must be of type int32/],
    ['list', [2 ** 53], /too large to be kept exactly/],
    ['port', 1.5, /must be of type integer or string/],
    ['address', '10.0.0.256', /must be of type ipv4: "10.0.0.256"/],
    ['day', '2023-02-29', /must be of type date/],
    ['labels', { a: 'b', c: 'd' }, /Too many: 2: must have at most 1 items/],
    [
      'labels',
      { a: 1 },
      /^spec.labels.a: Invalid value: "integer": spec.labels.a in body must be of type string: "integer"/,
    ],
    ['list', [], /should have at least 1 items/],
    ['list', [1, null], /^spec.list\[1\]: .*must be of type integer: "null"/],
    ['choice', { a: 'x', b: 'y' }, /must validate one and only one schema \(oneOf\). Found 2 valid alternatives/],
    ['pod', { apiVersion: 'v1' }, /^spec.pod.kind: Required value: must not be empty/],
  ];
  for (const [field, value, fault] of cases) {
    const { faults } = written(kind, crontab({ ...good, [field]: value }));
    t.equal(faults.length, 1, `${field}: ${faults.join(' | ')}`);
    t.match(faults[0], fault);
  }
  const pruned = written(
    kind,
    crontab({
      ...good,
      text: null,
      other: 1,
      free: { known: { deep: 1 } },
      pod: { ...good.pod, metadata: { lables: {} } },
    }),
  );
  t.same(pruned.unknown, ['spec.free.known.deep', 'spec.pod.metadata.lables', 'spec.other']);
  t.notOk('text' in pruned.object.spec, 'a null that the schema does not take is nothing');
  const named = kindOf({
    version: {
      schema: { openAPIV3Schema: object({ metadata: object({ name: { type: 'string', pattern: '^x-' } }) }) },
    },
  });
  t.match(written(named, crontab(undefined)).faults, [/^metadata.name: .*should match '\^x-'/]);
});

t.test('an old object is forgiven what it has always been, and nothing else', async (t) => {
  const strict = kindOf({
    spec: object({
      name: { type: 'string', maxLength: 3 },
      other: { type: 'string' },
      ruled: {
        type: 'string',
        'x-kubernetes-validations': [{ rule: "self != 'long'" }, { rule: "oldSelf != 'stuck'" }],
      },
      ports: {
        type: 'array',
        'x-kubernetes-list-type': 'map',
        'x-kubernetes-list-map-keys': ['port'],
        items: object({ port: { type: 'integer' }, name: { type: 'string', maxLength: 3 } }, { required: ['port'] }),
      },
    }),
  });
  const old = crontab({ name: 'long', ruled: 'long', ports: [{ port: 1, name: 'long' }] });
  t.same(written(strict, crontab({ ...old.spec, other: 'x' }), old).faults, []);
  t.same(written(strict, crontab({ ...old.spec, ports: [{ port: 2 }, ...old.spec.ports] }), old).faults, []);
  t.match(written(strict, crontab({ ...old.spec, name: 'longer' }), old).faults, [/^spec.name: Too long/]);
  t.match(written(strict, crontab({ ruled: 'long' }), crontab({ ruled: 'short' })).faults, [
    /^spec.ruled: .*self != 'long'/,
  ]);
  t.match(
    written(strict, crontab({ ruled: 'stuck' }), crontab({ ruled: 'stuck' })).faults,
    [/oldSelf != 'stuck'/],
    'a rule that compares is always asked',
  );
  t.match(written(strict, crontab({ ports: [{ port: 2, name: 'long' }] }), old).faults, [
    /^spec.ports\[0\].name: Too long/,
  ]);
});
