/** JSON and YAML bodies, good and hostile, and which form an Accept header asks for. */
import t from 'tap';
import { parseJson } from '../../../api-server/codec/json.ts';
import { negotiate } from '../../../api-server/codec/negotiate.ts';
import { parseYaml, toYaml } from '../../../api-server/codec/yaml.ts';

const json = (text: string, duplicates = false) => parseJson(Buffer.from(text), { duplicates });
const yaml = (text: string, duplicates = false) => parseYaml(Buffer.from(text), { duplicates });

t.test('JSON', (t) => {
  t.same(json('{"a":[1,{"b":null}]}'), { value: { a: [1, { b: null }] }, duplicates: [] });
  t.throws(() => json('{\n  "a": 1,\n  "b": oops }'), { code: 400, message: /offset 19 \(line 3, column 8\)/ });
  for (const [text, offset] of [
    ['{"a":1,}', 7],
    ['[1 2]', 3],
    ['{"a"', 4],
    ['[1,]', 3],
    ['"x', 0],
    ['01', 0],
    ['{"a":1}}', 7],
    ["{'a':1}", 1],
  ] as const) {
    t.throws(() => json(text), { code: 400, message: new RegExp(`offset ${offset} `) }, text);
  }
  t.throws(() => json(''), { code: 400, message: /empty/ });
  t.throws(() => parseJson(Buffer.from([0x22, 0xff, 0x22]), { duplicates: false }), { code: 400, message: /UTF-8/ });
  t.throws(() => json('['.repeat(1_000_000)), { code: 400, message: /deeper than 256 levels/ });
  t.same(json(`"${'['.repeat(1000)}"`).value, '['.repeat(1000), 'brackets inside a string do not nest');
  const text = '{"a":1,"a":2,"b":[{"c":1},{"c":1,"d":"\\"a\\":[,{","c":2}],"e":{"a":1},"\\u0061":3}';
  t.same(json(text, true).duplicates, ['a', 'b[1].c', 'a']);
  t.same(json('{"a":{"x":1},"b":{"x":1},"c":[1,2,3],"d":[[{"x":1}],[{"x":1}]]}', true).duplicates, []);
  t.end();
});

t.test('YAML', (t) => {
  t.same(yaml('a: yes\nb: "yes"\nc: 0644\nd: 12:30:45\ne: 2001-01-01\nf: ~\ng: |\n  x\n').value, {
    a: true,
    b: 'yes',
    c: 0o644,
    d: '12:30:45',
    e: '2001-01-01',
    f: null,
    g: 'x\n',
  });
  t.same(yaml('base: &b {x: 1}\nuse: {<<: *b, z: 2}\n').value, { base: { x: 1 }, use: { x: 1, z: 2 } });
  t.same(yaml('{"a": 1}').value, { a: 1 });
  t.same(yaml('{a: 1, b: [x]}').value, { a: 1, b: ['x'] });
  t.same(yaml('a: 1\nb: {c: 1, c: 2}\na: 2\n', true).duplicates.toSorted(), ['a', 'b.c']);
  t.throws(() => yaml('a: 1\n  b: 2\n'), { code: 400, message: /yaml: line \d/ });
  t.throws(() => yaml('a: 1\n---\nb: 2\n'), { code: 400, message: /one document/ });
  const bomb = [
    'a: &a [x, x, x, x, x, x, x, x, x]',
    ...'bcdefghi'
      .split('')
      .map((name, index) => `${name}: &${name} [${Array(9).fill(`*${'abcdefgh'[index]}`).join(', ')}]`),
  ].join('\n');
  t.throws(() => yaml(bomb), { code: 400 }, 'a thousand million laughs');
  const indented = (depth: number, key: string) =>
    Array.from({ length: depth }, (_, level) => `${' '.repeat(level)}${key}\n`).join('');
  for (const [says, nested] of [
    ['flow lists', (depth: number) => '['.repeat(depth) + ']'.repeat(depth)],
    ['flow lists that never end', (depth: number) => '['.repeat(depth)],
    ['flow maps', (depth: number) => `${'{a: '.repeat(depth)}1${'}'.repeat(depth)}`],
    ['flow maps as keys', (depth: number) => `${'{? '.repeat(depth)}1${'}'.repeat(depth)}`],
    ['lists', (depth: number) => `${'- '.repeat(depth)}1`],
    ['indented lists', (depth: number) => `${indented(depth, '-')}${' '.repeat(depth)}1`],
    ['indented maps', (depth: number) => `${indented(depth, 'a:')}${' '.repeat(depth)}b: 1`],
    ['keys', (depth: number) => `${'? '.repeat(depth)}1`],
  ] as const) {
    t.throws(() => yaml(nested(2_000)), { code: 400 }, says);
    if (!says.startsWith('indented')) t.throws(() => yaml(nested(20_000)), { code: 400 }, `${says}, even more`);
    if (/^(flow lists|flow maps|lists|indented lists|indented maps)$/.test(says))
      t.ok(yaml(nested(250)).value, `${says}: what is allowed is read`);
  }
  const object = yaml('__proto__: {polluted: 1}\n').value as Record<string, unknown>;
  t.equal(({} as Record<string, unknown>)['polluted'], undefined);
  t.same(Object.keys(object), ['__proto__']);
  t.same(yaml(toYaml({ a: 'yes', b: '012', c: ['x: y'], d: 'null', e: 'line\nline' })).value, {
    a: 'yes',
    b: '012',
    c: ['x: y'],
    d: 'null',
    e: 'line\nline',
  });
  t.end();
});

t.test('Accept', (t) => {
  const table = { as: 'Table', format: 'json', version: 'v1' };
  const cases: readonly [accept: string | undefined, chosen: object | undefined][] = [
    [undefined, { as: 'Object', format: 'json' }],
    ['*/*', { as: 'Object', format: 'json' }],
    ['application/json, */*', { as: 'Object', format: 'json' }],
    [
      'application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json',
      table,
    ],
    ['application/json;as=Table;v=v9;g=meta.k8s.io,application/yaml', { as: 'Object', format: 'yaml' }],
    ['application/vnd.kubernetes.protobuf,application/json', { as: 'Object', format: 'protobuf' }],
    ['application/vnd.kubernetes.protobuf;q=0.5,application/json;q=0.9', { as: 'Object', format: 'json' }],
    [
      'application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1',
      { as: 'PartialObjectMetadata', format: 'protobuf', version: 'v1' },
    ],
    [
      'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1',
      { as: 'PartialObjectMetadata', format: 'json', version: 'v1' },
    ],
    ['text/html', undefined],
    ['constructor', undefined],
    ['application/json;as=constructor', undefined],
    ['application/json;q=0', undefined],
  ];
  for (const [accept, chosen] of cases) t.same(negotiate(accept), chosen, accept ?? 'no header');
  t.end();
});
