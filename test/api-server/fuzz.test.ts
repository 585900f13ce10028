/**
 * Whatever bytes or texts come, each decoder either reads them or refuses them as the client's fault, at once: bodies in every format, patches of every kind, selectors, revisions, tokens, times and quantities, field ownership, records
 * of the log. Inputs are valid ones that were damaged, and nonsense. The same through a real server is in `hostile.test.ts`.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { parseQuantity, formatQuantity } from '../../api-schemas/quantity.ts';
import { loadRegistry } from '../../api-schemas/registry.ts';
import type { ApiObject } from '../../api-schemas/schema.ts';
import { pruneUnknown } from '../../api-server/admission/prune.ts';
import { applyDefaults } from '../../api-server/admission/defaults.ts';
import { canonicalTime } from '../../api-server/admission/time.ts';
import { validate } from '../../api-server/admission/validate.ts';
import { ServiceAccountTokens } from '../../api-server/authentication/service-account-tokens.ts';
import { newTokenKey } from '../../api-server/authentication/token-keys.ts';
import { parseJson } from '../../api-server/codec/json.ts';
import { negotiate } from '../../api-server/codec/negotiate.ts';
import { decodeProtobuf, encodeProtobuf } from '../../api-server/codec/protobuf.ts';
import { parseYaml, toYaml } from '../../api-server/codec/yaml.ts';
import { StatusError } from '../../api-server/errors.ts';
import { parseMoment } from '../../api-server/memory/moment.ts';
import { applyPatch } from '../../api-server/patch/apply.ts';
import { fromFieldsV1, toFieldsV1 } from '../../api-server/patch/field-set.ts';
import { jsonPatch } from '../../api-server/patch/json-patch.ts';
import { readManagers } from '../../api-server/patch/managed-fields.ts';
import { mergePatch } from '../../api-server/patch/merge-patch.ts';
import { strategicMergePatch } from '../../api-server/patch/strategic-merge.ts';
import { parseFieldSelector, parseLabelSelector } from '../../api-server/store/selectors.ts';
import { findAll, parsePath } from '../../api-server/table/json-path.ts';
import { parseRevision } from '../../api-server/verbs/get.ts';
import { readToken } from '../../api-server/verbs/pages.ts';
import { parseResourceRequest } from '../../api-server/request.ts';
import { HEADER, toRecord, escapeHeader, unescapeHeader } from '../../event-log/record.ts';
import { escapeToken, objectSubject, parseSubject, unescapeToken } from '../../event-log/subjects.ts';
import { readSigningRequest, SigningRequestError } from '../../pki/signing-request.ts';
import { readKubeconfig } from '../../sdk/kubeconfig.ts';
import { runs } from '../harness/runs.ts';
import { FrameError, FrameReader } from '../../controllers/pods/server/spdy/frames.ts';
import { signingRequest } from '../pki/requests.ts';
import { deployment, pod } from './api.ts';

const registry = loadRegistry();
const definitionOf = (group: string, kind: string) => {
  const definition = registry.byKind(group, 'v1', kind);
  if (!definition) throw new Error(`no ${kind}`);
  return definition;
};
const [DEPLOYMENT, POD] = [definitionOf('apps', 'Deployment'), definitionOf('', 'Pod')];
const web = (): ApiObject => structuredClone(deployment('web')) as ApiObject;

/** Runs it, and takes a refusal of the client's fault for an answer. */
function refusable<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof StatusError && error.code >= 400 && error.code < 500) return undefined;
    throw error;
  }
}

/** Checks that something holds for many inputs. */
function holds<T>(name: string, input: fc.Arbitrary<T>, check: (value: T) => unknown, few = 300): void {
  t.test(name, (t) => {
    t.doesNotThrow(() =>
      fc.assert(
        fc.property(input, (value) => void check(value)),
        { numRuns: runs(few) },
      ),
    );
    t.end();
  });
}

/** A valid text with some of it changed, cut, doubled or put elsewhere. */
const damaged = (valid: readonly string[]): fc.Arbitrary<string> =>
  fc
    .tuple(
      fc.constantFrom(...valid),
      fc.array(
        fc.tuple(
          fc.nat(),
          fc.nat(12),
          fc.oneof(
            fc.string({ maxLength: 4, unit: 'binary' }),
            fc.constantFrom(
              '"',
              '{',
              '}',
              '[',
              ']',
              ':',
              ',',
              '\\',
              '\0',
              '\n',
              '- ',
              '&a ',
              '*a',
              '$patch',
              '__proto__',
              '1e999',
              '-0',
            ),
          ),
        ),
        { maxLength: 6 },
      ),
    )
    .map(([text, changes]) =>
      changes.reduce((now, [at, length, put]) => {
        const place = at % (now.length + 1);
        return now.slice(0, place) + put + now.slice(place + length);
      }, text),
    );

const json = damaged([
  JSON.stringify(deployment('web')),
  JSON.stringify(pod('p', { volumes: [{ name: 'v', emptyDir: { sizeLimit: '1Gi' } }] })),
  '[{"op":"replace","path":"/spec/replicas","value":3},{"op":"move","from":"/spec/template","path":"/x"},{"op":"test","path":"/a~1b/-","value":null}]',
  '{"spec":{"template":{"spec":{"$setElementOrder/containers":[{"name":"main"}],"containers":[{"name":"main","$patch":"delete"}]}},"strategy":{"$retainKeys":["type"],"type":"Recreate"}},"metadata":{"$deleteFromPrimitiveList/finalizers":["x"],"labels":null}}',
]);

/** Trees that look like patches of a Deployment. */
const word = fc.constantFrom(
  ...['spec', 'template', 'metadata', 'containers', 'name', 'labels', 'finalizers', 'ports', 'env', 'main', 'replicas'],
  ...[
    '$patch',
    '$retainKeys',
    '$setElementOrder/containers',
    '$deleteFromPrimitiveList/finalizers',
    '__proto__',
    '',
    'constructor',
  ],
  ...['apiVersion', 'kind', 'managedFields', 'v1', 'apps/v1', 'Deployment', 'delete', 'replace', 'merge', 'web'],
);
const { tree } = fc.letrec<{ tree: unknown; leaf: unknown }>((tie) => ({
  leaf: fc.oneof(fc.constant(null), fc.integer(), word, fc.boolean(), fc.string({ maxLength: 3 })),
  tree: fc.oneof(
    { maxDepth: 5 },
    tie('leaf'),
    fc.array(tie('tree'), { maxLength: 3 }),
    fc.array(fc.tuple(word, tie('tree')), { maxLength: 4 }).map((entries) => Object.fromEntries(entries) as unknown),
  ),
}));
const asObject = (value: unknown): Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : { spec: value };

holds('JSON bodies', json, (given) => {
  // As it is once it has been sent: half of a surrogate pair is not.
  const text = Buffer.from(given).toString();
  const read = refusable(() => parseJson(Buffer.from(text), { duplicates: true }));
  if (read && JSON.stringify(JSON.parse(text)) !== JSON.stringify(read.value))
    throw new Error('read as something else');
});

holds('what repeats nothing is found to repeat nothing', fc.json(), (text) => {
  for (const form of [text, JSON.stringify(JSON.parse(text), undefined, 1), `${text}\n`])
    if (
      parseJson(Buffer.from(form), { duplicates: true }).duplicates.length > 0 &&
      JSON.stringify(JSON.parse(text)) === text
    )
      throw new Error('found what is not there');
});

holds(
  'YAML bodies',
  damaged([
    toYaml(deployment('web')),
    'a: &a [x, *a]\n',
    'a: !!binary x\n? [a]\n: b\n',
    '%YAML 1.2\n---\na: 1\n',
    'x: {a: 1, <<: {b: 2}}\n',
  ]),
  (text) => refusable(() => parseYaml(Buffer.from(text), { duplicates: true })),
);

const packed = [deployment('web'), pod('p')].map((object) => encodeProtobuf(object, registry) ?? Buffer.alloc(0));
holds(
  'protobuf bodies',
  fc.tuple(fc.constantFrom(...packed), fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 8 }), fc.nat()),
  ([valid, changes, cut]) => {
    const bytes = Buffer.from(valid.subarray(0, cut % 3 === 0 ? cut % valid.length : valid.length));
    for (const [at, byte] of changes) if (bytes.length > 0) bytes[at % bytes.length] = byte;
    refusable(() => decodeProtobuf(bytes, registry));
  },
);

holds('bodies on their way through admission', tree, (value) => {
  const object = {
    ...web(),
    ...asObject(structuredClone(value)),
    apiVersion: 'apps/v1',
    kind: 'Deployment',
  } as ApiObject;
  if (typeof object.metadata !== 'object' || object.metadata === null || Array.isArray(object.metadata)) return;
  if (pruneUnknown(object, DEPLOYMENT.schema).mistyped.length > 0) return;
  applyDefaults(object, DEPLOYMENT.schema);
  const faults = validate(object, undefined, DEPLOYMENT);
  if (!faults.every(({ message }) => message !== '')) throw new Error('a fault that says nothing');
});

holds(
  'JSON patches',
  fc.oneof(
    json.map((text) => refusable(() => parseJson(Buffer.from(text), { duplicates: false }))?.value),
    tree,
  ),
  (patch) => refusable(() => jsonPatch(web(), patch)),
);
holds('merge patches', tree, (patch) => refusable(() => mergePatch(web(), asObject(patch) as never)));
holds('strategic merge patches', fc.tuple(tree, fc.constantFrom(DEPLOYMENT, POD)), ([patch, { schema }]) =>
  refusable(() => strategicMergePatch(web(), asObject(patch) as never, schema)),
);
holds('server-side apply', fc.tuple(tree, fc.boolean()), ([value, force]) => {
  const config = {
    ...asObject(value),
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'web' },
  } as ApiObject;
  refusable(() =>
    applyPatch({
      live: web(),
      config,
      manager: 'fuzz',
      force,
      schema: DEPLOYMENT.schema,
      time: '2026-01-01T00:00:00Z',
    }),
  );
});
holds('field ownership', fc.oneof(tree, fc.object()), (value) => {
  refusable(() =>
    readManagers([{ manager: 'm', operation: 'Update', apiVersion: 'v1', fieldsType: 'FieldsV1', fieldsV1: value }]),
  );
  refusable(() => toFieldsV1(fromFieldsV1(value)));
});

holds(
  'label selectors',
  damaged(['a=b,c!=d,e in (f,g),!h,i notin (j)', 'app.kubernetes.io/name=x', '((', ',,,']),
  (text) => {
    const selects = refusable(() => parseLabelSelector(text));
    selects?.({ a: 'b', e: 'f' });
  },
);
holds('field selectors', damaged(['metadata.name=x,status.phase!=Running', 'spec.nodeName=', '=', '!=']), (text) =>
  refusable(() => parseFieldSelector(text, ['metadata.name', 'status.phase'])),
);
holds('revisions', fc.oneof(fc.string(), damaged(['123456', '18446744073709551615', '-1', '0x10'])), (text) => {
  const revision = refusable(() => parseRevision(text));
  if (revision !== undefined && !Number.isSafeInteger(revision)) throw new Error(`${text} is read as ${revision}`);
});
holds('moments', damaged(['5m', '2026-01-01T00:00:00Z', '1d2h ago', 'now', '42']), (text) =>
  refusable(() => parseMoment(text, Date.now())),
);
/** As long as a URL or a header may be: an expression that looks back takes hours over some of these. */
const long = fc
  .tuple(
    fc.constantFrom('', 'a', '=', '(', '.x', '!', '"'),
    fc.constantFrom(' ', 'a', '(', ')', ',', '=', '!', 'a ', ' a', '\\', '[', '.a', '1', '1d', '0', ';', 'a/b;', '\t'),
    fc.nat(16_000),
    fc.constantFrom('', 'x', ' x', '=', ')', ' ago', '"', ';q=', ']'),
  )
  .map(([before, piece, length, after]) => before + piece.repeat(length / piece.length) + after);
holds(
  'long texts',
  long,
  (text) => {
    refusable(() => parseLabelSelector(text));
    refusable(() => parseFieldSelector(text, ['metadata.name']));
    refusable(() => parseRevision(text));
    refusable(() => readToken(text));
    parseMoment(text, Date.now());
    negotiate(text);
    parsePath(text);
    parseQuantity(text);
    canonicalTime(text, 6);
  },
  100,
);
holds(
  'continue tokens',
  fc.oneof(
    fc.string({ maxLength: 40 }),
    fc
      .oneof(json, fc.json(), damaged(['{"scope":"s","after":"a/b","snapshot":{"id":"x","revision":7,"expiresAt":9}}']))
      .map((text) => Buffer.from(text).toString('base64url')),
  ),
  (token) => refusable(() => readToken(token)),
);
holds(
  'Accept headers',
  damaged(['application/json;as=Table;v=v1;g=meta.k8s.io,application/json;q=0.5,*/*;q=0', ';;,,==']),
  (text) => negotiate(text),
);
holds(
  'paths',
  damaged([
    '/api/v1/namespaces/default/pods/x/log',
    '/apis/apps/v1/namespaces/%00/deployments/..',
    '//',
    '/api/v1/nodes/%ff/proxy/a/b',
  ]),
  (text) => {
    let url: URL;
    try {
      url = new URL(text, 'https://reckon');
    } catch {
      return;
    }
    try {
      parseResourceRequest('GET', url);
    } catch (error) {
      if (!(error instanceof URIError)) throw error;
    }
  },
);
holds(
  'paths into objects',
  fc.tuple(damaged(['.spec.containers[*].name', '.status.conditions[?(@.type=="Ready")].status', '.a[-1]']), tree),
  ([path, value]) => {
    if (parsePath(path)) findAll(value, path);
  },
);
holds('quantities', damaged(['1.5Gi', '-0.1m', '12e3', '1000000000000000000000Ei', '.5']), (text) => {
  const quantity = parseQuantity(text);
  if (!quantity) return;
  const written = formatQuantity(quantity);
  const again = parseQuantity(written);
  if (!again || formatQuantity(again) !== written)
    throw new Error(`${text} is written ${written}, which is not read as itself`);
});
holds(
  'times',
  damaged(['2026-01-01T00:00:00Z', '2024-02-29T23:59:60.123456789+14:00', '9999-12-31T23:59:59Z']),
  (text) => {
    for (const digits of [0, 6] as const) {
      const canonical = canonicalTime(text, digits);
      if (canonical !== undefined && canonicalTime(canonical, digits) !== canonical)
        throw new Error(`${text}: ${canonical}`);
    }
  },
);

const text = fc.string({ maxLength: 20, unit: 'binary' });
/** Without half of a pair: what UTF-8 can hold. */
const isWellFormed = (part: string): boolean => Buffer.from(part).toString() === part;
holds(
  'records of the log',
  fc.record({
    subject: damaged(['reckon.desired.core.configmaps.default.x', 'reckon.observed.apps.deployments._.a%2Eb']),
    headers: fc.dictionary(
      fc.constantFrom(...Object.values(HEADER)),
      fc.oneof(text, fc.constantFrom('create', '1,2', 'id 1 2', '7')),
    ),
    data: fc.oneof(
      fc.uint8Array({ maxLength: 50 }),
      fc.json().map((each) => Buffer.from(each)),
    ),
  }),
  ({ subject, headers, data }) => {
    const record = toRecord('reckon', { sequence: 1, subject, header: (name) => headers[name], data, storedAtMs: 0 });
    if (typeof record === 'string' ? record === '' : record.uid === undefined)
      throw new Error('neither read nor refused');
  },
);
holds(
  'names in subjects and headers',
  fc.record({ group: text, resource: text, namespace: text, name: text }),
  (key) => {
    for (const part of Object.values(key)) {
      const token = escapeToken(part);
      if (part !== '' && isWellFormed(part) && (unescapeToken(token) !== part || /[.*>\s]/.test(token)))
        throw new Error(JSON.stringify(part));
      const header = escapeHeader(part);
      if (/[\r\n]/.test(header) || (isWellFormed(part) && unescapeHeader(header) !== part))
        throw new Error(JSON.stringify(part));
    }
    if (Object.values(key).every((part) => part !== '' && isWellFormed(part) && part !== '_' && part !== 'core')) {
      const parsed = parseSubject('reckon', objectSubject('reckon', 'desired', key));
      if (JSON.stringify(parsed?.key) !== JSON.stringify(key)) throw new Error(JSON.stringify(parsed));
    }
  },
);

const wholeFrames = Buffer.from(
  '800300010100000e000000010000000000000000000080030006000000040000000700000001000000057465787421',
  'hex',
);
holds(
  'frames of a port-forward',
  fc.tuple(
    fc.array(fc.tuple(fc.nat(wholeFrames.length - 1), fc.nat(255)), { maxLength: 6 }),
    fc.nat(wholeFrames.length),
    fc.uint8Array({ maxLength: 40 }),
  ),
  ([changes, cut, more]) => {
    const bytes = Buffer.concat([wholeFrames, more]);
    for (const [at, byte] of changes) bytes[at] = byte;
    const reader = new FrameReader();
    try {
      for (const part of [bytes.subarray(0, cut), bytes.subarray(cut)])
        for (const frame of reader.push(part)) if (!frame) throw new Error('no frame');
    } catch (error) {
      if (!(error instanceof FrameError)) throw error;
    }
  },
);

const PEM_HEAD = '-----BEGIN CERTIFICATE REQUEST-----';
const asked = signingRequest({ commonName: 'eve', organizations: ['a', 'b'], dnsNames: ['eve.example'] }).request;
const der = Buffer.from(asked.replaceAll(/-----[^-]*-----/g, ''), 'base64');
const readsRequest = (pem: string): void => {
  try {
    const { commonName, organizations, dnsNames } = readSigningRequest(pem);
    // The signature is over all of it: what is believed is what was asked for.
    if (commonName !== 'eve' || organizations.join() !== 'a,b' || dnsNames.join() !== 'eve.example')
      throw new Error(`${commonName} is believed`);
  } catch (error) {
    if (!(error instanceof SigningRequestError) || error.message === '') throw error;
  }
};
holds('certificate requests, as texts', damaged([asked, `Certificate Request:\n${asked}\n${asked}`]), readsRequest);
holds(
  'certificate requests, as DER',
  fc.tuple(
    fc.array(fc.tuple(fc.nat(der.length - 1), fc.nat(255)), { maxLength: 4 }),
    fc.nat(der.length),
    fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      // Depth, and lengths that are lies.
      fc.nat(2_000).map((depth) => Buffer.from('3080'.repeat(depth), 'hex')),
      fc.nat(0xffffffff).map((length) => Buffer.from(`3084${length.toString(16).padStart(8, '0')}`, 'hex')),
    ),
  ),
  ([changes, at, put]) => {
    const bytes = Buffer.concat([der.subarray(0, at), changes.length > 2 ? put : Buffer.alloc(0), der.subarray(at)]);
    for (const [place, byte] of changes) bytes[place] = byte;
    readsRequest(`${PEM_HEAD}\n${bytes.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`);
  },
);

// Nothing is looked up in the store before the signature holds, and of these none does but those of accounts that are not there.
const tokens = new ServiceAccountTokens({
  keys: newTokenKey(),
  registry,
  store: { cache: () => ({ get: () => undefined }) } as never,
});
const { token: issued } = tokens.issue({
  namespace: 'default',
  account: { name: 'robot', uid: 'u' },
  audiences: [],
  lifetimeSeconds: 600,
});
const [issuedHead = '', issuedClaims = '', issuedSignature = ''] = issued.split('.');
const part = fc.oneof(
  fc.constantFrom(issuedHead, issuedClaims, issuedSignature),
  fc
    .oneof(fc.json(), damaged(['{"alg":"ES256","kid":"x"}', '{"alg":"none"}']))
    .map((each) => Buffer.from(each).toString('base64url')),
);
holds(
  'tokens',
  fc.oneof(
    fc.string(),
    damaged([issued]),
    fc.array(part, { maxLength: 4 }).map((parts) => parts.join('.')),
    long,
  ),
  (token) => {
    const answer = tokens.verify(token);
    if (!('fault' in answer) || answer.fault === '') throw new Error(`${token} is believed`);
  },
);

const folder = mkdtempSync(path.join(tmpdir(), 'reckon-fuzz-'));
t.teardown(() => rmSync(folder, { recursive: true, force: true }));
const kubeconfig = {
  'current-context': 'x',
  clusters: [{ name: 'x', cluster: { server: 'https://127.0.0.1:6443', 'certificate-authority-data': 'eA==' } }],
  users: [{ name: 'x', user: { token: 't', 'client-certificate': 'nowhere.crt' } }],
  contexts: [{ name: 'x', context: { cluster: 'x', user: 'x', namespace: 'n' } }],
};
holds(
  'kubeconfigs',
  fc.oneof(
    damaged([toYaml(kubeconfig), JSON.stringify(kubeconfig)]),
    tree.map((value) => toYaml({ ...kubeconfig, contexts: value })),
  ),
  (content) => {
    const file = path.join(folder, 'kubeconfig');
    writeFileSync(file, content);
    try {
      readKubeconfig(file);
    } catch (error) {
      // In a sentence for a person, which names the file.
      if (!(error instanceof Error) || error.constructor !== Error || !error.message.includes(folder)) throw error;
    }
  },
);
