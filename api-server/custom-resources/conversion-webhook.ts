/**
 * Conversion between the versions of a custom kind by its author's webhook: a ConversionReview goes out, the converted objects come back, and nothing of them is believed that a webhook may not change. Made for a definition
 * by `resource-definitions.ts`; asked through `versions.ts`. https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definition-versioning/#webhook-conversion
 */
import { randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import type { ApiObject, Convert } from '../../api-schemas/schema.ts';
import type { CustomResourceDefinition } from '../../api-schemas/types/apiextensions-v1.ts';
import { labelAndAnnotationFaults } from '../admission/metadata.ts';
import { parseJson } from '../codec/json.ts';
import { StatusError } from '../errors.ts';
import type { Reach } from '../subresources/service-endpoint.ts';
import { webhookClient, type WebhookClient } from './webhook-client.ts';

const GROUP = 'apiextensions.k8s.io';
const KIND = 'ConversionReview';
/** The versions of ConversionReview that are spoken here; of both the shape is the same. */
export const REVIEW_VERSIONS = ['v1', 'v1beta1'] as const;

/** As in Kubernetes. */
const TIMEOUT_MS = 30_000;
/** Of one call; a longer list takes several, one after the other. */
const MAX_OBJECTS = 500;
const MAX_BYTES = 16 * 1024 * 1024;

export interface WebhookOptions {
  readonly reach: Reach;
  readonly logger: Logger;
  readonly timeoutMs?: number;
}

/** Undefined for a definition whose versions differ in nothing but their name. */
export function webhookConversion({ spec }: CustomResourceDefinition, options: WebhookOptions): Convert | undefined {
  const { strategy, webhook } = spec.conversion ?? {};
  if (strategy !== 'Webhook' || !webhook?.clientConfig) return undefined;
  const { reach, logger, timeoutMs = TIMEOUT_MS } = options;
  const client = webhookClient({ config: webhook.clientConfig, reach, timeoutMs });
  const version = webhook.conversionReviewVersions.find((one) => (REVIEW_VERSIONS as readonly string[]).includes(one));
  const reviewer = { client, apiVersion: `${GROUP}/${version ?? REVIEW_VERSIONS[0]}` };
  return async (objects, desired) => {
    try {
      return await convertAll(reviewer, objects, `${spec.group}/${desired}`);
    } catch (error) {
      logger.warn({ err: error, group: spec.group, kind: spec.names.kind, desired }, 'a conversion webhook failed');
      throw error;
    }
  };
}

interface Reviewer {
  readonly client: WebhookClient;
  readonly apiVersion: string;
}

/** Objects that are in the wanted version already stay as they are, and the webhook does not see them. */
async function convertAll(
  reviewer: Reviewer,
  objects: readonly ApiObject[],
  desired: string,
): Promise<readonly ApiObject[]> {
  const results = [...objects];
  for (const batch of batches(objects, desired)) {
    const converted = await review(reviewer, batch, desired);
    for (const [place, { index }] of batch.entries()) results[index] = converted[place] as ApiObject;
  }
  return results;
}

interface Item {
  /** Its place among all. */
  readonly index: number;
  readonly object: ApiObject;
  readonly json: string;
}

function* batches(objects: readonly ApiObject[], desired: string): Generator<readonly Item[]> {
  let batch: Item[] = [];
  let length = 0;
  for (const [index, object] of objects.entries()) {
    if (object.apiVersion === desired) continue;
    const json = JSON.stringify(object);
    if (batch.length >= MAX_OBJECTS || (batch.length > 0 && length + json.length > MAX_BYTES)) {
      yield batch;
      [batch, length] = [[], 0];
    }
    batch.push({ index, object, json });
    length += json.length;
  }
  if (batch.length > 0) yield batch;
}

async function review(
  { client, apiVersion }: Reviewer,
  batch: readonly Item[],
  desired: string,
): Promise<readonly ApiObject[]> {
  const { apiVersion: from = '', kind = '' } = batch[0]?.object ?? {};
  const refuse = (what: string, cause?: unknown) =>
    new StatusError('Unknown', `conversion webhook for ${from}, Kind=${kind} ${what}`, undefined, { cause });
  let converted: readonly unknown[];
  try {
    const uid = randomUUID();
    const objects = batch.map(({ json }) => json).join();
    const request = `{"uid":"${uid}","desiredAPIVersion":"${desired}","objects":[${objects}]}`;
    const body = Buffer.from(`{"kind":"${KIND}","apiVersion":"${apiVersion}","request":${request}}`);
    converted = answered(await client.post(body), { apiVersion, uid });
  } catch (error) {
    throw refuse(`failed: ${(error as Error).message}`, error);
  }
  if (converted.length !== batch.length) throw refuse(`returned ${converted.length} objects, expected ${batch.length}`);
  return batch.map(({ object }, index) => {
    try {
      return believed(object, converted[index], desired);
    } catch (error) {
      throw refuse(`returned invalid converted object at index ${index}: ${(error as Error).message}`, error);
    }
  });
}

type Json = Record<string, unknown>;

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** The converted objects of an answer. Throws an Error for one that is none to this request, and for one that tells of a failure. */
function answered(body: Buffer, { apiVersion, uid }: { apiVersion: string; uid: string }): readonly unknown[] {
  const { value } = parseJson(body, { duplicates: false });
  const given = isObject(value) ? value : {};
  if (given['kind'] !== KIND || given['apiVersion'] !== apiVersion)
    throw new Error(
      `expected webhook response of ${apiVersion}, Kind=${KIND}, got ${String(given['apiVersion'])}, Kind=${String(given['kind'])}`,
    );
  const { response } = given;
  if (!isObject(response)) throw new Error('no response provided');
  // The older version did not ask webhooks to repeat it.
  if (response['uid'] !== uid && (apiVersion === `${GROUP}/v1` || response['uid']))
    throw new Error(`expected response.uid=${JSON.stringify(uid)}, got ${JSON.stringify(response['uid'])}`);
  const result = isObject(response['result']) ? response['result'] : {};
  if (result['status'] !== 'Success')
    throw new Error(
      typeof result['message'] === 'string' && result['message'] !== ''
        ? result['message']
        : `response.result.status was ${JSON.stringify(result['status'] ?? '')}, not "Success"`,
    );
  return Array.isArray(response['convertedObjects']) ? (response['convertedObjects'] as readonly unknown[]) : [];
}

/** The converted object with the metadata of the original, but for labels and annotations. Throws an Error for what a conversion may not do. */
function believed(original: ApiObject, converted: unknown, desired: string): ApiObject {
  if (!isObject(converted)) throw new Error('it is no object');
  if (converted['apiVersion'] !== desired)
    throw new Error(`invalid groupVersion (expected ${desired}, received ${String(converted['apiVersion'])})`);
  if (converted['kind'] !== original.kind)
    throw new Error(`invalid kind (expected ${original.kind}, received ${String(converted['kind'])})`);
  const { metadata } = converted;
  if (!isObject(metadata)) throw new Error('it has no metadata');
  for (const field of ['name', 'namespace', 'uid'] as const) {
    const [is, was] = [metadata[field] ?? '', original.metadata[field] ?? ''];
    if (is !== was) throw new Error(`must have the same ${field}: ${JSON.stringify(is)} != ${JSON.stringify(was)}`);
  }
  const { labels: _, annotations: __, ...kept } = original.metadata;
  const own = { ...textsIn(metadata, 'labels', original), ...textsIn(metadata, 'annotations', original) };
  return { ...converted, apiVersion: desired, kind: original.kind, metadata: { ...kept, ...own } };
}

/** Labels or annotations as the webhook gives them. What stood in the original is not judged again. */
function textsIn(metadata: Json, field: 'labels' | 'annotations', original: ApiObject): Partial<ApiObject['metadata']> {
  const given = metadata[field];
  if (given === undefined || given === null) return {};
  if (!isObject(given)) throw new Error(`metadata.${field} is no object`);
  const mistyped = Object.keys(given).find((key) => typeof given[key] !== 'string');
  if (mistyped !== undefined) throw new Error(`metadata.${field}[${mistyped}] must be a string`);
  const texts = given as Record<string, string>;
  const before = original.metadata[field] ?? {};
  const changed = Object.fromEntries(Object.entries(texts).filter(([key, value]) => before[key] !== value));
  const [fault] = labelAndAnnotationFaults({ [field]: changed }, 'metadata');
  if (fault) throw new Error(`${fault.field}: ${fault.message}`);
  return { [field]: texts };
}
