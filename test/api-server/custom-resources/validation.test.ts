/**
 * What is judged of custom kinds and their objects, case by case and without a server: structural schemas, values, CEL rules with what they may cost, what an old object is forgiven, and what holds of any schema.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import t from 'tap';
import { loadRegistry } from '../../../api-schemas/registry.ts';
import type { ApiObject, ResourceDefinition } from '../../../api-schemas/schema.ts';
import type { CustomResourceDefinition } from '../../../api-schemas/types/apiextensions-v1.ts';
import { applyDefaults } from '../../../api-server/admission/defaults.ts';
import { pruneUnknown } from '../../../api-server/admission/prune.ts';
import { validate } from '../../../api-server/admission/validate.ts';
import { decodeProtobuf, encodeProtobuf } from '../../../api-server/codec/protobuf.ts';
import { decodeCustom } from '../../../api-server/custom-resources/decode.ts';
import { present } from '../../../api-server/custom-resources/presentation.ts';
import { resourceDefinitions } from '../../../api-server/custom-resources/resource-definitions.ts';
import { ApiDocuments } from '../../../api-server/documents.ts';
import { decode, makeEntry, type Entry } from '../../../api-server/store/entry.ts';
import { toTable } from '../../../api-server/table/table.ts';
import { authorityCertificate, type Json } from '../api.ts';
import { crd, GROUP, object, type CrdOptions } from './custom-cluster.ts';

const registry = loadRegistry();
const definitions = registry.byResource(
  'apiextensions.k8s.io',
  'v1',
  'customresourcedefinitions',
) as ResourceDefinition;

/** A definition as a write leaves it before it is judged. */
function admitted(given: Json): ApiObject {
  const definition = structuredClone(given) as ApiObject;
  const { unknown, mistyped } = pruneUnknown(definition, definitions.schema);
  if (unknown.length > 0 || mistyped.length > 0) throw new Error(JSON.stringify({ unknown, mistyped }));
  return applyDefaults(definition, definitions.schema);
}

const faultsOf = (given: Json, old?: Json): string[] =>
  validate(admitted(given), old && admitted(old), definitions).map(({ field, message }) => `${field}: ${message}`);

const ROOT = 'spec.versions[0].schema.openAPIV3Schema';
const SPEC = `${ROOT}.properties[spec]`;

/** The kind that a definition makes; the definition itself must be in order. */
function kindOf(options: CrdOptions): ResourceDefinition {
  const given = crd(options);
  const faults = faultsOf(given);
  if (faults.length > 0) throw new Error(faults.join('\n'));
  const [kind] = resourceDefinitions(admitted(given) as unknown as CustomResourceDefinition, { registry });
  if (!kind) throw new Error('no version is served');
  return kind;
}

const crontab = (spec: Json, more: object = {}): Json => ({
  apiVersion: `${GROUP}/v1`,
  kind: 'CronTab',
  metadata: { name: 'one', namespace: 'default' },
  ...(spec !== undefined && { spec }),
  ...more,
});

/** An object as a write leaves it, and what was found wrong with it. */
function written(
  kind: ResourceDefinition,
  given: Json,
  old?: Json,
): { object: Json; faults: string[]; unknown: string[] } {
  const one = structuredClone(given) as ApiObject;
  const { unknown } = decodeCustom(one, kind.schema);
  applyDefaults(one, kind.schema);
  const faults = validate(one, old as ApiObject | undefined, kind).map(({ field, message }) => `${field}: ${message}`);
  return { object: one, faults, unknown: unknown.map(({ path }) => path) };
}

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

t.test('definitions that are not in order, every fault at once', async (t) => {
  const bad = crd({
    group: 'example',
    names: { kind: 'Cron Tab', singular: 'crontab', listKind: 'CronTabList', shortNames: ['C_T'] },
    version: {
      deprecationWarning: 'old',
      additionalPrinterColumns: [{ name: 'A', type: 'text', jsonPath: 'spec' }],
      subresources: { scale: { specReplicasPath: '.status.a', statusReplicasPath: '.status.list[0]' } },
      selectableFields: [{ jsonPath: '.spec.a' }, { jsonPath: '.metadata.name' }],
    },
    spec: object({ a: object({}) }),
    more: { conversion: { strategy: 'Webhook' } },
  });
  const faults = faultsOf(bad);
  for (const expected of [
    /^spec.group: .*should be a domain with at least one dot/,
    /^spec.names.kind: .*a DNS-1035 label/,
    /^spec.names.shortNames\[0\]: /,
    /^spec.conversion.webhook.clientConfig: Required value/,
    /^spec.conversion.webhook.conversionReviewVersions: Required value/,
    /^spec.versions\[0\].deprecationWarning: .*can only be set for deprecated versions/,
    /^spec.versions\[0\].additionalPrinterColumns\[0\].type: Unsupported value: "text"/,
    /^spec.versions\[0\].additionalPrinterColumns\[0\].jsonPath: /,
    /^spec.versions\[0\].subresources.scale.specReplicasPath: .*under .spec/,
    /^spec.versions\[0\].subresources.scale.statusReplicasPath: /,
    /^spec.versions\[0\].selectableFields\[0\].jsonPath: .*must point to a field of type/,
    /^spec.versions\[0\].selectableFields\[1\].jsonPath: .*must not point to fields in metadata/,
  ])
    t.ok(
      faults.some((fault) => expected.test(fault)),
      String(expected),
    );
  t.equal(faults.length, 12, faults.join('\n'));
  const without = crd();
  delete without.spec.versions[0].schema;
  t.same(faultsOf(without), [`${ROOT}: Required value: schemas are required`]);
  const two = crd({ versions: [crd().spec.versions[0], { ...crd().spec.versions[0] }] });
  t.match(faultsOf(two), [
    /must have exactly one version marked as storage version/,
    /must contain unique version names/,
  ]);
  t.match(faultsOf(crd({ group: 'apps.k8s.io' })), [
    /^metadata.annotations\[api-approved.kubernetes.io\]: Required value/,
  ]);
  t.match(faultsOf({ ...crd(), metadata: { name: 'other' } }), [/^metadata.name: .*must be spec.names.plural/]);
  const restrained = crd({
    version: { schema: { openAPIV3Schema: object({ metadata: object({ labels: object({}) }) }) } },
  });
  t.match(faultsOf(restrained), [/must not specify anything other than name and generateName/]);
  const established = {
    ...crd(),
    status: { conditions: [{ type: 'Established', status: 'True' }], storedVersions: ['v1'] },
  };
  t.match(faultsOf({ ...established, spec: { ...crd({ kind: 'Other' }).spec, scope: 'Cluster' } }, established), [
    /^spec.scope: .*field is immutable/,
    /^spec.names.kind: .*field is immutable/,
  ]);
});

t.test('where a conversion webhook is, and what it understands', async (t) => {
  const caBundle = Buffer.from(authorityCertificate).toString('base64');
  const withWebhook = (webhook: unknown, strategy = 'Webhook') =>
    faultsOf(crd({ more: { conversion: { strategy, webhook } } }));
  const client = (clientConfig: unknown) => withWebhook({ clientConfig, conversionReviewVersions: ['v1'] });
  const service = (more: object) => client({ service: { namespace: 'a', name: 'b', ...more } });
  const url = (text: string) => client({ url: text });
  const versions = (...conversionReviewVersions: string[]) =>
    withWebhook({ clientConfig: { url: 'https://a' }, conversionReviewVersions });
  const at = 'spec.conversion.webhook.';
  const cases: readonly (readonly [faults: readonly string[], ...expected: RegExp[]])[] = [
    [url('https://a.b:8443/c/d')],
    [service({ path: '/a/b', port: 8443 })],
    [client({ url: 'https://a', caBundle })],
    [versions('v2', 'v1beta1')],
    [withWebhook({ conversionReviewVersions: ['v1'] }, 'None'), /webhook: Forbidden: should not be set when strategy/],
    [withWebhook({ conversionReviewVersions: ['v1'] }), /clientConfig: Required value/],
    [client({}), /clientConfig: Required value: exactly one of url or service is required/],
    [client({ url: 'https://a', service: { namespace: 'a', name: 'b' } }), /exactly one of url or service/],
    [url('http://a'), /clientConfig.url: .*'https' is the only allowed URL scheme/],
    [url('nothing'), /url must be a valid URL/],
    [url('https://u:p@a/?b=c#d'), /user information/, /fragments/, /query parameters/],
    [service({ path: 'a' }), /service.path: .*must start with a '\/'/],
    [service({ path: '/a//b_c' }), /segment\[1\] may not be empty/, /segment\[2\]: /],
    [service({ port: 0 }), /service.port/],
    [client({ url: 'https://a', caBundle: 'bm8=' }), /caBundle: .*unable to load root certificates/],
    [versions(), /conversionReviewVersions: Required value/],
    [versions('v2'), /must include at least one of v1, v1beta1/],
    [versions('v1', 'v1'), /conversionReviewVersions\[1\]: Duplicate value/],
    [versions('v1', 'V_1'), /conversionReviewVersions\[1\]: .*a DNS-1035 label/],
  ];
  for (const [faults, ...expected] of cases) {
    t.equal(faults.length, expected.length, faults.join('\n'));
    t.match(faults, expected);
    t.ok(faults.every((fault) => fault.startsWith(at) || fault.startsWith('spec.conversion.webhook:')));
  }
});

t.test('a definition in protobuf', async (t) => {
  const definition = crd({
    spec: object(
      {
        map: {
          type: 'object',
          additionalProperties: { type: 'string', enum: ['a', null], default: 'a', nullable: true },
        },
        any: { type: 'object', additionalProperties: true },
        list: { type: 'array', items: object({ port: { 'x-kubernetes-int-or-string': true } }), maxItems: 0 },
        share: { type: 'number', minimum: 0, exclusiveMinimum: true, multipleOf: 0.5, not: { minimum: 3 } },
      },
      { default: {}, 'x-kubernetes-validations': [{ rule: 'true', reason: 'FieldValueForbidden' }] },
    ),
    version: { additionalPrinterColumns: [{ name: 'A', type: 'string', jsonPath: '.spec' }] },
  });
  const bytes = encodeProtobuf(structuredClone(definition), registry);
  t.strictSame(bytes && decodeProtobuf(bytes, registry), definition, 'there and back it is the same');
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

t.test('rules in CEL', async (t) => {
  const rules = (...list: Json[]) => ({ 'x-kubernetes-validations': list });
  const kind = kindOf({
    spec: object(
      {
        min: { type: 'integer' },
        max: { type: 'integer' },
        'x-y': { type: 'string' },
        namespace: { type: 'string' },
        data: {
          type: 'object',
          additionalProperties: { type: 'string' },
          ...rules({ rule: "'constructor' in self && self.all(key, self[key] != 'bad')" }),
        },
        once: { type: 'string', ...rules({ rule: 'self == oldSelf', message: 'is set once' }) },
        size: { type: 'string', ...rules({ rule: "quantity(self).isLessThan(quantity('1Gi'))" }) },
        host: { type: 'string', ...rules({ rule: "isURL(self) && url(self).getHost() == 'example.com'" }) },
        network: {
          type: 'string',
          ...rules({ rule: "cidr(self).containsIP('10.1.2.3')", reason: 'FieldValueForbidden' }),
        },
        word: { type: 'string', ...rules({ rule: "self.matches('^[a-z]+$') && self.find('b+') == 'bb'" }) },
        list: {
          type: 'array',
          items: { type: 'integer' },
          ...rules({ rule: 'self.isSorted() && self.sum() < 10 && sets.contains(self, [1])' }),
        },
        when: { type: 'string', format: 'date-time', ...rules({ rule: "self > timestamp('2024-01-01T00:00:00Z')" }) },
        grown: {
          type: 'integer',
          ...rules({ rule: '!oldSelf.hasValue() || self >= oldSelf.value()', optionalOldSelf: true }),
        },
      },
      rules(
        {
          rule: '!has(self.min) || !has(self.max) || self.min <= self.max',
          messageExpression: "'min ' + string(self.min) + ' is above max ' + string(self.max)",
          fieldPath: '.min',
        },
        { rule: "!has(self.x__dash__y) || self.x__dash__y != 'bad'" },
        { rule: "!has(self.__namespace__) || self.__namespace__ != 'bad'" },
      ),
    ),
  });
  const good = {
    min: 1,
    max: 2,
    'x-y': 'a',
    namespace: 'a',
    data: { constructor: 'a' },
    once: 'a',
    size: '5Mi',
    host: 'https://example.com/a',
    network: '10.0.0.0/8',
    word: 'abb',
    list: [1, 2],
    when: '2025-01-01T00:00:00Z',
    grown: 3,
  };
  t.same(written(kind, crontab(good)).faults, []);
  const old = written(kind, crontab(good)).object;
  const cases: [change: Json, fault: string][] = [
    [{ min: 3 }, 'spec.min: Invalid value: "object": min 3 is above max 2'],
    [
      { 'x-y': 'bad' },
      'spec: Invalid value: "object": failed rule: !has(self.x__dash__y) || self.x__dash__y != \'bad\'',
    ],
    [
      { namespace: 'bad' },
      'spec: Invalid value: "object": failed rule: !has(self.__namespace__) || self.__namespace__ != \'bad\'',
    ],
    [{ once: 'b' }, 'spec.once: Invalid value: "b": is set once'],
    [{ size: '2Gi' }, 'spec.size: Invalid value: "2Gi": failed rule: quantity(self).isLessThan(quantity(\'1Gi\'))'],
    [
      { host: '/a' },
      'spec.host: Invalid value: "/a": failed rule: isURL(self) && url(self).getHost() == \'example.com\'',
    ],
    [{ network: '10.2.0.0/16' }, "spec.network: Forbidden: failed rule: cidr(self).containsIP('10.1.2.3')"],
    [
      { word: 'ab' },
      "spec.word: Invalid value: \"ab\": failed rule: self.matches('^[a-z]+$') && self.find('b+') == 'bb'",
    ],
    [
      { list: [2, 1] },
      'spec.list: Invalid value: "array": failed rule: self.isSorted() && self.sum() < 10 && sets.contains(self, [1])',
    ],
    [
      { when: '2023-01-01T00:00:00Z' },
      'spec.when: Invalid value: "2023-01-01T00:00:00Z": failed rule: self > timestamp(\'2024-01-01T00:00:00Z\')',
    ],
    [{ grown: 2 }, 'spec.grown: Invalid value: 2: failed rule: !oldSelf.hasValue() || self >= oldSelf.value()'],
  ];
  for (const [change, fault] of cases)
    t.strictSame(written(kind, crontab({ ...good, ...change }), old).faults, [fault]);

  const broken: [rule: Json, fault: RegExp][] = [
    [{ rule: 'self.max >' }, /rule: .*compilation failed/],
    [{ rule: 'self.maxx > 1' }, /compilation failed: No such key: maxx/],
    [{ rule: 'self.max + 1' }, /must evaluate to a bool, and not to a int/],
    [{ rule: "self.max == 'a'" }, /no such overload: int == string/],
    [{ rule: 'nothing(self.max)' }, /compilation failed/],
    [{ rule: 'other.max > 1' }, /Unknown variable: other/],
    [{ rule: ' ' }, /rule: Required value/],
    [{ rule: 'true', message: 'a\nb' }, /message: .*must be one line/],
    [{ rule: 'true', messageExpression: '1' }, /must evaluate to a string/],
    [{ rule: 'true', fieldPath: '.nothing' }, /fieldPath must be a valid path/],
    [{ rule: 'true', optionalOldSelf: true }, /may not be set if oldSelf is not used/],
  ];
  for (const [rule, fault] of broken) {
    const faults = faultsOf(crd({ spec: object({ max: { type: 'integer' } }, rules(rule)) }));
    t.equal(faults.length, 1, faults.join(' | '));
    t.match(faults[0], fault);
  }
  const lost = crd({ spec: { type: 'array', items: { type: 'string', ...rules({ rule: 'self == oldSelf' }) } } });
  t.match(faultsOf(lost), [/oldSelf cannot be used on the uncorrelatable portion/]);
});

t.test("Kubernetes' functions in CEL", async (t) => {
  const holds = [
    "[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && [3, 1].max() == 3 && ['a', 'b', 'a'].lastIndexOf('a') == 2 && [1, 2].indexOf(3) == -1",
    "[1, 1, 2].isSorted() && !['b', 'a'].isSorted() && [1.5, 2.5].sum() == 4.0",
    "'abc 123'.find('[0-9]+') == '123' && 'a1b2'.findAll('[0-9]') == ['1', '2'] && 'a1b2'.findAll('[0-9]', 1) == ['1']",
    "'héllo'.charAt(1) == 'é' && 'a-b-c'.replace('-', '+', 1) == 'a+b-c' && 'A,B'.lowerAscii().split(',').join('') == 'ab'",
    'sets.contains([1, 2], [1]) && sets.equivalent([1, 2], [2, 1]) && sets.intersects([1], [1, 2]) && !sets.intersects([1], [2])',
    "url('https://user@example.com:8080/a%20b?x=1&x=2#f').getHost() == 'example.com:8080' && url('/a').getScheme() == ''",
    "url('https://[::1]:80/').getHostname() == '::1' && url('http://a:81').getPort() == '81' && url('http://a/b?x=1&x=2').getQuery()['x'] == ['1', '2']",
    "url('http://a/b%20c').getEscapedPath() == '/b%20c' && !isURL('a b') && isURL('/path')",
    "ip('192.168.0.1').family() == 4 && ip('::1').isLoopback() && !ip('10.0.0.1').isLoopback() && ip('10.0.0.1').isGlobalUnicast() && string(ip('::1')) == '::1'",
    "isIP('::1') && !isIP('1.2.3') && isCIDR('10.0.0.0/8') && !isCIDR('10.0.0.0/33') && ip('fe80::1').isLinkLocalUnicast()",
    "cidr('192.168.0.0/16').containsCIDR('192.168.1.0/24') && !cidr('192.168.0.0/24').containsCIDR(cidr('192.168.0.0/16')) && cidr('::/0').prefixLength() == 0",
    "cidr('192.168.3.7/16').masked() == cidr('192.168.0.0/16') && cidr('2001:db8::5/64').masked().ip() == ip('2001:db8::')",
    "quantity('1.5Gi').add(quantity('512Mi')) == quantity('2Gi') && quantity('2k').sub(1) == quantity('1999') && quantity('-1').sign() == -1",
    "quantity('50k').isInteger() && quantity('50k').asInteger() == 50000 && quantity('1500m').asApproximateFloat() == 1.5 && quantity('1').compareTo(quantity('1000m')) == 0",
    "!isQuantity('1Ga') && isQuantity('1Gi') && ip.isCanonical('::1') && !ip.isCanonical('0:0::1')",
    "'%s has %d of %.1f%% in %x'.format(['a', 3, 2.55, 255]) == 'a has 3 of 2.5% in ff' || '%d'.format([1]) == '1'",
    "!format.dns1123Label().validate('a-b').hasValue() && format.dns1123Label().validate('A').value().size() == 1 && format.named('uuid').hasValue()",
    'cel.bind(x, [1, 2].map(n, n * n), x == [1, 4]) && [1, 2, 3].filter(n, n > 1).exists_one(n, n == 3)',
    "duration('1h') > duration('59m') && timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
    "self.?name.orValue('none') == 'none' && !has(self.name) && type(self) != type(1)",
  ];
  const rules = holds.map((rule) => ({ rule }));
  const kind = kindOf({ spec: object({ name: { type: 'string' } }, { 'x-kubernetes-validations': rules }) });
  t.strictSame(written(kind, crontab({})).faults, []);
});

t.test('what is hostile costs little', async (t) => {
  const within = (ms: number, name: string, work: () => void) => {
    const began = performance.now();
    work();
    t.ok(performance.now() - began < ms, `${name} took ${Math.round(performance.now() - began)} ms`);
  };
  const evil = kindOf({
    spec: object({
      text: { type: 'string', pattern: '^(a+)+$' },
      list: {
        type: 'array',
        items: { type: 'integer' },
        'x-kubernetes-validations': [{ rule: 'self.all(a, self.all(b, self.all(c, a + b + c >= 0)))' }],
      },
      word: { type: 'string', 'x-kubernetes-validations': [{ rule: "self.matches('^(a|aa)+$')" }] },
    }),
  });
  within(5_000, 'a pattern that backtracking never ends on', () =>
    t.match(written(evil, crontab({ text: `${'a'.repeat(100_000)}b` })).faults, [/should match/]),
  );
  within(5_000, 'the same in a rule', () =>
    t.match(written(evil, crontab({ word: `${'a'.repeat(100_000)}b` })).faults, [/failed rule/]),
  );
  within(5_000, 'a rule in three loops', () =>
    t.match(written(evil, crontab({ list: Array.from({ length: 2_000 }, (_, index) => index) })).faults, [
      /running out of cost budget, no further validation rules will be run/,
    ]),
  );
  const wide = Object.fromEntries(
    Array.from({ length: 20_000 }, (_, index) => [`field${index}`, { type: 'string', pattern: '^a$', default: 'a' }]),
  );
  within(10_000, 'a definition of a megabyte', () => {
    const kind = kindOf({ spec: object(wide, { default: {} }) });
    t.equal(Object.keys(written(kind, crontab(undefined)).object.spec).length, 20_000);
  });
  let deep: Json = { type: 'string' };
  for (let depth = 0; depth < 120; depth++) deep = object({ a: deep });
  within(5_000, 'a deep one', () => t.same(faultsOf(crd({ spec: deep })), []));
  t.match(faultsOf(crd({ spec: { type: 'object', properties: JSON.parse('{"__proto__":{"type":"string"}}') } })), [
    /must not be the name of a field/,
  ]);
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

t.test('what is withdrawn leaves nothing behind', async (t) => {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const own = loadRegistry();
  const documents = new ApiDocuments(own);
  /** Everything that a server does with a kind, until it is gone. */
  const live = (index: number): WeakRef<object> => {
    const [plural, kind] = [`things${index}`, `Thing${index}`];
    const spec = object(
      { a: { type: 'string', default: 'x', pattern: `^x(${index})?$` } },
      { 'x-kubernetes-validations': [{ rule: `self.a != 'b${index}'` }] },
    );
    const one = kindOf({ plural, kind, spec });
    own.add(one);
    documents.get(`/openapi/v3/apis/${GROUP}/v1`);
    documents.get('/openapi/v2');
    const entry = makeEntry({
      key: { group: GROUP, resource: plural, namespace: 'default', name: 'one' },
      sequence: index + 1,
      object: { ...crontab({}), kind } as ApiObject,
      selectableFields: [],
    });
    if (!(present(one, entry) as Entry).bytes.includes('"a":"x"')) throw new Error('the default is missing');
    if (written(one, { ...crontab({}), kind }).faults.length > 0) throw new Error('it should be in order');
    toTable(one, [decode(entry)], { resourceVersion: '1', includeObject: 'None', nowMs: 0, version: 'v1' });
    own.remove(GROUP, 'v1', plural);
    return new WeakRef(one.schema);
  };
  const schemas = Array.from({ length: 20 }, (_, index) => live(index));
  documents.get('/openapi/v3');
  for (let turn = 0; turn < 5; turn++) {
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
  }
  const left = schemas.filter((schema) => schema.deref() !== undefined).length;
  t.ok(left <= 1, `${left} schemas are still held`);
});

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
