/**
 * The other versions that the fields of an object were written in. Where they name fields otherwise, who owns a field is compared in the version that its owner wrote. Used by server-side apply and by the tracking of updates.
 */
import type { Schema } from '../../api-schemas/schema.ts';
import type { JsonObject } from './json.ts';

export interface OtherVersions {
  /** Undefined for a version that is no more: whoever wrote in it owns nothing any longer. */
  schemaOf(apiVersion: string): Schema | undefined;
  /** Rejects with a StatusError. */
  convert(objects: readonly JsonObject[], apiVersion: string): Promise<readonly JsonObject[]>;
}
