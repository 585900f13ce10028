/** The schema files hold together: they compile, refer to things that exist, and drive defaults, protobuf, tables and types without a gap. */
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import t from 'tap';
import { formats } from '../../api-schemas/formats.ts';
import { generateTypes } from '../../api-schemas/generate-types.ts';
import { loadRegistry, schemaFolder } from '../../api-schemas/registry.ts';
import type { ApiObject, Schema } from '../../api-schemas/schema.ts';
import type { Deployment } from '../../api-schemas/types/apps-v1.ts';
import type { ConfigMap, Node, Pod, Secret, Service } from '../../api-schemas/types/core-v1.ts';
import type { EndpointSlice } from '../../api-schemas/types/discovery-v1.ts';

type Json = Record<string, unknown>;

const registry = loadRegistry();
const documents = registry.documents();

/** Keywords of our own and of Kubernetes, so that ajv reports every other unknown one as the slip of the pen that it is. */
const VOCABULARY = [
  'x-reckon-resource',
  'x-kubernetes-group-version-kind',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
  'x-kubernetes-map-type',
  'x-kubernetes-patch-strategy',
  'x-kubernetes-patch-merge-key',
  'x-kubernetes-int-or-string',
  'x-kubernetes-preserve-unknown-fields',
  'x-kubernetes-validations',
  'x-protobuf',
  'x-protobuf-within',
  'x-protobuf-message',
  'x-protobuf-other',
];

function makeAjv(): Ajv2020 {
  const ajv = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false, allErrors: true });
  ajv.addVocabulary(VOCABULARY);
  for (const [name, { type, valid }] of Object.entries(formats)) {
    if (type === 'number') ajv.addFormat(name, { type, validate: valid as (value: number) => boolean });
    else ajv.addFormat(name, { type, validate: valid as (value: string) => boolean });
  }
  for (const document of documents.values()) ajv.addSchema(document);
  return ajv;
}

/** Every schema node once, with the place it was first found at. */
function* nodes(): Generator<[Schema, string]> {
  const seen = new Set<Schema>();
  const queue: [Schema, string][] = registry.types().map((title) => [registry.type(title) as Schema, title]);
  for (let entry = queue.shift(); entry !== undefined; entry = queue.shift()) {
    const [node, place] = entry;
    if (seen.has(node)) continue;
    seen.add(node);
    yield entry;
    for (const [name, child] of Object.entries(node.properties ?? {})) queue.push([child, `${place}.${name}`]);
    for (const child of [node.items, node.additionalProperties, ...(node.anyOf ?? [])]) {
      if (typeof child === 'object') queue.push([child, `${place}[]`]);
    }
  }
}

t.test('the registry', async (t) => {
  const deployments = registry.byResource('apps', 'v1', 'deployments');
  t.equal(deployments, registry.byKind('apps', 'v1', 'Deployment'));
  t.equal(registry.byResource('apps', 'v1', 'deployment'), undefined, 'the singular is not the plural');
  t.equal(
    deployments?.schema.properties?.['spec']?.properties?.['template']?.properties?.['spec']?.properties?.['containers']
      ?.items,
    registry.type('io.k8s.api.core.v1.Container'),
    'a reference is the very node it names',
  );
  const props = registry.type('io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps');
  t.equal(props?.properties?.['allOf']?.items, props, 'a type may contain itself');
  t.ok(registry.type('io.k8s.api.autoscaling.v1.Scale'), 'types that no resource is of are there too');

  const own = loadRegistry();
  const before = own.resources().length;
  const widget = { ...deployments, group: 'example.com', resource: 'widgets', kind: 'Widget' } as NonNullable<
    typeof deployments
  >;
  own.add(widget);
  t.equal(own.byKind('example.com', 'v1', 'Widget'), widget);
  t.equal(own.resources().length, before + 1);
  const changes = own.changes;
  own.remove('example.com', 'v1', 'widgets');
  t.equal(own.byResource('example.com', 'v1', 'widgets'), undefined);
  t.equal(own.byKind('example.com', 'v1', 'Widget'), undefined);
  t.equal(own.resources().length, before);
  t.ok(own.changes > changes, 'the change can be noticed');
});

t.test('every document compiles with ajv and our formats', async (t) => {
  const ajv = makeAjv();
  for (const [path, document] of documents) {
    t.equal(document['$id'], `reckon://api-schemas/${path}`);
    const names = ['', ...Object.keys((document['$defs'] as Json | undefined) ?? {}).map((name) => `#/$defs/${name}`)];
    for (const name of names) {
      const compile = () => ajv.getSchema(`reckon://api-schemas/${path}${name}`);
      t.doesNotThrow(compile, `${path}${name}`);
      if (compile() === undefined) t.fail(`${path}${name} cannot be found`);
    }
  }
});

t.test('validation takes what is right and names what is wrong', async (t) => {
  const validate = makeAjv().getSchema('reckon://api-schemas/apps/v1/deployment.json');
  if (validate === undefined) throw new Error('no schema');
  const container = {
    name: 'web',
    image: 'nginx:1',
    ports: [{ containerPort: 80 }],
    resources: { limits: { cpu: 1, memory: '64Mi' } },
  };
  const make = (change: Json, spec: Json = {}): unknown => ({
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web' },
    spec: {
      selector: { matchLabels: { app: 'web' } },
      template: { metadata: { labels: { app: 'web' } }, spec: { containers: [{ ...container, ...change }] } },
      ...spec,
    },
  });
  t.ok(validate(make({})), JSON.stringify(validate.errors));
  t.ok(
    validate(make({}, { strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: '50%' } } })),
    'both forms of a share',
  );
  const wrong: [string, unknown][] = [
    ['/spec/template/spec/containers/0/ports/0/containerPort', make({ ports: [{ containerPort: 70000 }] })],
    ['/spec/template/spec/containers/0/name', make({ name: 'Web_1' })],
    ['/spec/template/spec/containers/0/image', make({ image: '' })],
    ['/spec/template/spec/containers/0/imagePullPolicy', make({ imagePullPolicy: 'Sometimes' })],
    ['/spec/template/spec/containers/0/resources/limits/cpu', make({ resources: { limits: { cpu: 'fast' } } })],
    ['/spec/replicas', make({}, { replicas: -1 })],
    ['/spec/replicas', make({}, { replicas: 2 ** 31 })],
    ['/spec/strategy/rollingUpdate/maxSurge', make({}, { strategy: { rollingUpdate: { maxSurge: '5' } } })],
    ['/spec/template/spec/containers', make({}, { template: { spec: { containers: [] } } })],
    ['/spec/selector/matchLabels', make({}, { selector: { matchLabels: { 'a b': 'x' } } })],
    ['/spec/selector/matchLabels/a', make({}, { selector: { matchLabels: { a: '-x-' } } })],
  ];
  for (const [path, object] of wrong) {
    t.notOk(validate(object), `${path} is refused`);
    t.ok(
      validate.errors?.some((error) => error.instancePath === path),
      `${path}: ${JSON.stringify(validate.errors)}`,
    );
  }
});

t.test('references carry no schemas of their own beside them', async (t) => {
  let references = 0;
  const visit = (node: unknown, place: string, named: boolean): void => {
    if (Array.isArray(node)) return node.forEach((each, index) => visit(each, `${place}/${index}`, false));
    if (typeof node !== 'object' || node === null) return;
    const beside = node as Json;
    if (!named && typeof beside['$ref'] === 'string') {
      references++;
      // The registry merges shallowly: it would lose one side of these.
      for (const keyword of ['properties', 'items', 'additionalProperties', 'required', 'anyOf']) {
        if (keyword in beside) t.fail(`${place}: ${keyword} beside $ref`);
      }
    }
    for (const [key, value] of Object.entries(beside)) {
      if (key !== 'default' && key !== 'x-reckon-resource')
        visit(value, `${place}/${key}`, !named && (key === 'properties' || key === '$defs'));
    }
  };
  for (const [path, document] of documents) visit(document, path, false);
  t.ok(references > 100, `${references} references were met`);
});

t.test('protobuf: every field of a message has a number, and no two share one', async (t) => {
  let messages = 0;
  for (const [node, place] of nodes()) {
    if (node['x-protobuf-message'] === undefined || node.properties === undefined) continue;
    messages += 1;
    const taken = new Map<string, string>();
    for (const [name, field] of Object.entries(node.properties)) {
      const number = field['x-protobuf'];
      if (number === undefined) {
        t.ok(name === 'apiVersion' || name === 'kind', `${place}.${name} has a field number`);
        continue;
      }
      const key = `${field['x-protobuf-within']?.[0] ?? ''}/${number[0]}`;
      if (taken.has(key)) t.fail(`${place}: ${name} and ${taken.get(key)} are both field ${key}`);
      taken.set(key, name);
      if (taken.has(`/${field['x-protobuf-within']?.[0]}`))
        t.fail(`${place}: ${name} sits in a message whose number is taken`);
    }
  }
  t.ok(messages > 300, `${messages} messages`);
  const volume = registry.type('io.k8s.api.core.v1.Volume')?.properties?.['emptyDir'];
  t.same(volume?.['x-protobuf'], [2, 'EmptyDirVolumeSource']);
  t.same(volume?.['x-protobuf-within'], [2, 'VolumeSource']);
});

t.test('defaults are values that their own schema allows', async (t) => {
  const ajv = makeAjv();
  let checked = 0;
  const visit = (node: unknown, base: string, pointer: string): void => {
    if (typeof node !== 'object' || node === null) return;
    const raw = node as Json;
    if ('default' in raw && (typeof raw['default'] !== 'object' || Array.isArray(raw['default']))) {
      const validate = ajv.compile({ $id: `reckon://default/${checked}`, $ref: `${base}#${pointer}` });
      t.ok(
        validate(raw['default']),
        `${base}#${pointer} default ${JSON.stringify(raw['default'])}: ${JSON.stringify(validate.errors)}`,
      );
      checked += 1;
    }
    for (const [key, value] of Object.entries(raw)) {
      if (['default', 'x-reckon-resource', 'enum', 'required'].includes(key)) continue;
      visit(value, base, `${pointer}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`);
    }
  };
  for (const [path, document] of documents) {
    for (const [name, node] of Object.entries((document['$defs'] as Json | undefined) ?? {})) {
      // A type may have a field that is called `default`; it is a schema and not a value.
      if (name !== 'JSONSchemaProps') visit(node, `reckon://api-schemas/${path}`, `/$defs/${name}`);
    }
    visit({ properties: document['properties'] }, `reckon://api-schemas/${path}`, '');
  }
  t.ok(checked > 60, `${checked} defaults`);
  // Objects among the defaults are filled further: they must only name fields that exist.
  for (const [node, place] of nodes()) {
    if (typeof node.default !== 'object' || node.default === null || Array.isArray(node.default)) continue;
    for (const field of Object.keys(node.default))
      t.ok(node.properties?.[field], `${place}: ${field} of its default is a field`);
  }
});

t.test('tables and selectors name fields that exist', async (t) => {
  const readme = readFileSync(join(schemaFolder(), 'README.md'), 'utf8');
  const described = new Set([...readme.matchAll(/^- `(cell:\w+)`/gm)].map((match) => match[1]));
  const used = new Set<string>();
  const at = (schema: Schema, path: string): Schema | undefined =>
    path.split('.').reduce<Schema | undefined>((node, step) => {
      const map = node?.additionalProperties;
      return node?.properties?.[step] ?? (typeof map === 'object' ? map : undefined);
    }, schema);
  // Kept by Kubernetes for old clients, though the field itself is called otherwise.
  const historical = new Set(['source', 'status.successful', 'reportingComponent']);
  for (const { resource, schema, columns, selectableFields, scale } of registry.resources()) {
    for (const { value } of columns) {
      if (value.startsWith('cell:')) used.add(value);
      else t.ok(at(schema, value.slice(1)), `${resource}: ${value}`);
    }
    for (const field of selectableFields) if (!historical.has(field)) t.ok(at(schema, field), `${resource}: ${field}`);
    if (scale) {
      t.ok(at(schema, scale.specReplicasPath.slice(1)), `${resource}: ${scale.specReplicasPath}`);
      t.ok(at(schema, scale.statusReplicasPath.slice(1)), `${resource}: ${scale.statusReplicasPath}`);
    }
  }
  t.same([...used].sort(), [...described].sort(), 'README.md says what every computed cell shows');
});

t.test('the committed types are those of the schemas', async (t) => {
  const folder = join(schemaFolder(), 'types');
  const generated = generateTypes(documents);
  t.same(readdirSync(folder).sort(), [...generated.keys()].sort());
  for (const [file, text] of generated) {
    t.ok(
      readFileSync(join(folder, file), 'utf8') === text,
      `${file} is current (run node dist/api-schemas/generate-types.js)`,
    );
  }
});

t.test('formats', async (t) => {
  const cases: [string, unknown[], unknown[]][] = [
    ['dns-1123-label', ['a', 'a-1', '1a', ''], ['A', '-a', 'a-', 'a.b', 'a'.repeat(64)]],
    ['dns-1035-label', ['a', 'a-1'], ['1a', 'a.b', 'a_b']],
    ['dns-1123-subdomain', ['a.b-c.d', '10.0.0.1', 'a'.repeat(253)], ['a..b', '.a', 'A.b', 'a'.repeat(254)]],
    ['wildcard-dns-1123-subdomain', ['*.example.com', 'example.com'], ['*', '*.', 'a.*.b']],
    ['path-segment', ['system:admin', 'A b'], ['a/b', '..', '.', '100%']],
    ['label-key', ['app', 'app.kubernetes.io/name', 'A_b.c'], ['/a', 'a/b/c', 'A.com/x', 'a/', `a/${'b'.repeat(64)}`]],
    ['label-value', ['', 'v1', 'a_b.c'], ['-a', 'a b', 'a'.repeat(64)]],
    ['config-key', ['.dockercfg', 'a.b', 'A_b-c'], ['a/b', '..', '..a', '.', 'a b']],
    ['env-var-name', ['PATH', 'a.b', 'with space'], ['A=B', 'tab\t', 'é']],
    ['port-name', ['http', 'a-1'], ['1', 'a--b', '-a', 'HTTP', 'a'.repeat(16)]],
    ['ip', ['10.0.0.1', '::1', '2001:db8::ffff'], ['10.0.0', '256.1.1.1', '1.2.3.4/8']],
    ['cidr', ['10.0.0.0/8', 'fd00::/64'], ['10.0.0.0', '10.0.0.0/33', 'fd00::/129', '10.0.0.0/8/8']],
    [
      'quantity',
      ['1', '0.5', '.5', '100m', '1Gi', '1e3', '1E-2', '-1', '12E'],
      ['', '1 Gi', 'Gi', '1GiB', '1.2.3', 'e3', '1mi'],
    ],
    [
      'date-time',
      ['2024-02-29T12:00:00Z', '2024-01-01T00:00:00.123456Z', '2024-01-01T00:00:00+01:00'],
      ['2024-01-01', '2024-13-01T00:00:00Z', '2024-01-01T24:00:00Z', 'now'],
    ],
    ['byte', ['', 'aGk=', 'aGk=\n', 'aGVs'], ['a', 'aGk', 'a===', 'ä']],
    [
      'cron',
      ['*/5 * * * *', '0 0 1,15 * mon-fri', '@hourly', '@every 1h30m', '0-30/10 1 * jan *'],
      ['* * * *', '60 * * * *', '* * * * 8', '@often', '*/0 * * * *', '5-1 * * * *'],
    ],
    ['relative-path', ['a/b', '..a'], ['/a', 'a/../b', '..']],
    ['int32', [0, -(2 ** 31), 2 ** 31 - 1], [2 ** 31, 1.5]],
    ['int64', [2 ** 53], [1.5, 2 ** 63]],
  ];
  for (const [name, good, bad] of cases) {
    const valid = formats[name]?.valid as (value: unknown) => boolean;
    for (const value of good) t.equal(valid(value), true, `${name} takes ${JSON.stringify(value)}`);
    for (const value of bad) t.equal(valid(value), false, `${name} refuses ${JSON.stringify(value)}`);
  }
});

/** Checked by the compiler alone: every kind is an ApiObject to the machinery. */
export const assignable:
  ((object: Pod | Deployment | ConfigMap | Secret | Service | Node | EndpointSlice) => ApiObject) | undefined = (
  object,
) => object;
