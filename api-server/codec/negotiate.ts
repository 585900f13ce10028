/**
 * Chooses the form of an answer from the Accept header: JSON, YAML or protobuf, of the object itself, a Table, or its metadata alone. Called by `respond.ts` on every read, so the few headers
 * that clients really send are remembered. https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
 */

export interface Representation {
  readonly as: 'Object' | 'Table' | 'PartialObjectMetadata';
  readonly format: 'json' | 'yaml' | 'protobuf';
  /** Of meta.k8s.io, for a Table or metadata alone: `v1` or `v1beta1`. */
  readonly version?: string;
}

/** What can be served here. */
export interface Offer {
  /** A stream of events, which YAML has no form for. */
  readonly watch: boolean;
  /** Whether the whole object has a protobuf form. Asked only where it matters. */
  readonly message: () => boolean;
}

const EVERYTHING: Offer = { watch: false, message: () => true };

interface Range {
  readonly type: string;
  readonly parameters: ReadonlyMap<string, string>;
  readonly quality: number;
}

const FORMATS: ReadonlyMap<string, Representation['format']> = new Map([
  ['*/*', 'json'],
  ['application/*', 'json'],
  ['application/json', 'json'],
  ['application/yaml', 'yaml'],
  ['application/vnd.kubernetes.protobuf', 'protobuf'],
]);
const META_VERSIONS = new Set(['v1', 'v1beta1']);
const TRANSFORMED: ReadonlyMap<string, Exclude<Representation['as'], 'Object'>> = new Map([
  ['Table', 'Table'],
  ['PartialObjectMetadata', 'PartialObjectMetadata'],
  ['PartialObjectMetadataList', 'PartialObjectMetadata'],
]);

const MAX_REMEMBERED = 256;
const MAX_HEADER_LENGTH = 4096;
const remembered = new Map<string, readonly Representation[]>();

/** Undefined when nothing that the client accepts can be served. No header at all is JSON. */
export function negotiate(accept: string | undefined, offer: Offer = EVERYTHING): Representation | undefined {
  if (accept === undefined || accept.trim() === '') return JSON_OBJECT;
  const known = remembered.get(accept) ?? rememberRanges(accept);
  for (const representation of known) {
    if (offer.watch && representation.format === 'yaml') continue;
    if (representation.as === 'Object' && representation.format === 'protobuf' && !offer.message()) continue;
    return representation;
  }
  return undefined;
}

const JSON_OBJECT: Representation = { as: 'Object', format: 'json' };

/** What the header asks for that there is at all, best first. */
function rememberRanges(accept: string): readonly Representation[] {
  const wanted = parseAccept(accept).flatMap((range) => serve(range) ?? []);
  if (remembered.size < MAX_REMEMBERED && accept.length <= MAX_HEADER_LENGTH) remembered.set(accept, wanted);
  return wanted;
}

/** The ranges of a header, best first: by quality, then the named before the wild; equals keep their order, and what is refused (q=0) is left out. */
export function parseAccept(accept: string): readonly Range[] {
  return accept
    .slice(0, MAX_HEADER_LENGTH)
    .split(',')
    .map((part) => {
      const [type = '', ...rest] = part.split(';').map((piece) => piece.trim());
      const parameters = new Map(
        rest.map(
          (piece) =>
            [piece.split('=')[0]?.trim().toLowerCase() ?? '', piece.slice(piece.indexOf('=') + 1).trim()] as const,
        ),
      );
      const quality = Number(parameters.get('q') ?? 1);
      return { type: type.toLowerCase(), parameters, quality: Number.isFinite(quality) ? quality : 1 };
    })
    .filter(({ type, quality }) => type !== '' && quality > 0)
    .sort((a, b) => b.quality - a.quality || wildness(a) - wildness(b));
}

const wildness = ({ type }: Range): number => (type === '*/*' ? 2 : type.endsWith('/*') ? 1 : 0);

function serve({ type, parameters }: Range): Representation | undefined {
  const format = FORMATS.get(type);
  if (!format || (parameters.get('stream') ?? 'watch') !== 'watch') return undefined;
  const wanted = parameters.get('as');
  if (wanted === undefined) return { as: 'Object', format };
  const as = TRANSFORMED.get(wanted);
  const version = parameters.get('v') ?? 'v1';
  const group = parameters.get('g') ?? 'meta.k8s.io';
  // A Table has no protobuf form; the next range is asked.
  if (!as || group !== 'meta.k8s.io' || !META_VERSIONS.has(version) || (as === 'Table' && format === 'protobuf'))
    return undefined;
  return { as, format, version };
}
