/**
 * What a CustomResourceDefinition must say beside its schemas, case by case and without a server.
 */
import t from 'tap';
import { decodeProtobuf, encodeProtobuf } from '../../../api-server/codec/protobuf.ts';
import { authorityCertificate } from '../api.ts';
import { crd, faultsOf, object, registry, ROOT } from './custom-kinds.ts';

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
