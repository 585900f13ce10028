/**
 * The annotation of client-side apply, `kubectl.kubernetes.io/last-applied-configuration`, where server-side apply has to know of it: kubectl may go on with
 * what it applied before, and the annotation follows, so that an older kubectl can go back. Called by apply.ts for the manager `kubectl` only.
 * See https://kubernetes.io/docs/reference/using-api/server-side-apply/#upgrading-from-client-side-apply-to-server-side-apply.
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { difference, type FieldSet } from './field-set.ts';
import { compareFields, fieldsOf } from './field-walk.ts';
import { checkDepth, field, isArray, isObject, type JsonObject } from './json.ts';
import { withoutManagedFields } from './managed-fields.ts';
import { typeFaults } from './typed-check.ts';

export const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';

/** Kubernetes' limit on all annotations of an object together, in bytes. */
const MAX_ANNOTATIONS_BYTES = 256 * 1024;

const annotationsOf = (object: JsonObject): JsonObject => {
  const metadata = field(object, 'metadata');
  const annotations = isObject(metadata) ? field(metadata, 'annotations') : undefined;
  return isObject(annotations) ? annotations : {};
};

const lastApplied = (object: JsonObject): string | undefined => {
  const text = field(annotationsOf(object), LAST_APPLIED);
  return typeof text === 'string' && text !== '' ? text : undefined;
};

/** The fields of the annotation's configuration that stand in the live object as they were applied; undefined where there is no usable annotation. */
export function lastAppliedFields(live: JsonObject, apiVersion: string, schema: Schema): FieldSet | undefined {
  const text = lastApplied(live);
  if (text === undefined) return undefined;
  const config = parse(text);
  if (!isObject(config) || field(config, 'apiVersion') !== apiVersion || typeFaults(config, schema).length > 0)
    return undefined;
  const { changed, removed } = compareFields(config, withoutManagedFields(live), schema);
  return difference(difference(fieldsOf(config, schema), changed), removed);
}

const parse = (text: string): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
};

/** The object with the annotation, if it has one, brought to the configuration now applied; emptied where it would grow too large. */
export function withLastApplied(object: JsonObject, config: JsonObject): JsonObject {
  if (lastApplied(object) === undefined) return object;
  const others = Object.entries(annotationsOf(object)).filter(([name]) => name !== LAST_APPLIED);
  const text = `${JSON.stringify(sorted(withoutAnnotation(config), 0))}\n`;
  const size = others.reduce(
    (sum, [name, value]) => sum + name.length + String(value).length,
    LAST_APPLIED.length + Buffer.byteLength(text),
  );
  const annotations = { ...annotationsOf(object), [LAST_APPLIED]: size > MAX_ANNOTATIONS_BYTES ? '' : text };
  return { ...object, metadata: { ...(object['metadata'] as JsonObject), annotations } };
}

function withoutAnnotation(config: JsonObject): JsonObject {
  const annotations = annotationsOf(config);
  if (!Object.hasOwn(annotations, LAST_APPLIED)) return config;
  const { [LAST_APPLIED]: _dropped, ...rest } = annotations;
  return { ...config, metadata: { ...(config['metadata'] as JsonObject), annotations: rest } };
}

/** Keys in order, as kubectl writes the annotation. */
function sorted(value: unknown, depth: number): unknown {
  checkDepth(depth, 'the configuration');
  if (isArray(value)) return value.map((item) => sorted(item, depth + 1));
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([left], [right]) => (left < right ? -1 : left > right ? 1 : 0))
      .map(([name, item]) => [name, sorted(item, depth + 1)]),
  );
}
