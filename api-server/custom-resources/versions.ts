/**
 * Objects of a custom kind in another of its versions, where its author's webhook makes that of them. Objects come in and go out in the version that is asked for, and are stored in one: called by `presentation.ts` for what
 * is read, and by the verbs for what is stored and for whose fields were written in another version.
 */
import type { ApiObject, ResourceDefinition } from '../../api-schemas/schema.ts';
import type { OtherVersions } from '../patch/versions.ts';
import { decodeCustom } from './decode.ts';

/** `convert` of a kind that has one; what the target version has no field for is dropped, as in Kubernetes. */
export async function inVersion(
  { custom }: Pick<ResourceDefinition, 'custom'>,
  objects: readonly ApiObject[],
  version: string,
): Promise<readonly ApiObject[]> {
  const converted = (await custom?.convert?.(objects, version)) ?? objects;
  const schema = custom?.schemaOf(version);
  if (schema) for (const object of converted) decodeCustom(object, schema);
  return converted;
}

/** The objects of a custom kind are all stored in one version, whichever they are written in. */
export async function asStored(definition: ResourceDefinition, object: ApiObject): Promise<ApiObject> {
  const { group, version, custom } = definition;
  if (!custom) return object;
  const { storageVersion, convert } = custom;
  if (!convert || version === storageVersion) return { ...object, apiVersion: `${group}/${storageVersion}` };
  const [converted] = await inVersion(definition, [structuredClone(object)], storageVersion);
  return converted ?? object;
}

/** Undefined where a field has the same name in every version. */
export function otherVersions(definition: ResourceDefinition): OtherVersions | undefined {
  const { group, custom } = definition;
  if (!custom?.convert) return undefined;
  const nameOf = (apiVersion: string): string =>
    apiVersion.startsWith(`${group}/`) ? apiVersion.slice(group.length + 1) : '';
  return {
    schemaOf: (apiVersion) => custom.schemaOf(nameOf(apiVersion)),
    convert: (objects, apiVersion) =>
      inVersion(definition, structuredClone(objects) as ApiObject[], nameOf(apiVersion)),
  };
}
