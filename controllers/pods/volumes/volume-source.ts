/** What each volume of a pod is on this node: a folder, files, a path, a volume of the engine. Pure; read by prepare-volumes.ts and by mounts.ts. */
import { createHash } from 'node:crypto';
import { dataStateOf, VOLUME_DRIVER } from '../../../api-schemas/docker-volumes.ts';
import type {
  DownwardAPIVolumeFile,
  KeyToPath,
  PersistentVolume,
  ServiceAccountTokenProjection,
  Volume,
} from '../../../api-schemas/types/core-v1.ts';
import { fieldValue, resourceValue, type DownwardFacts } from '../downward.ts';
import { specOf } from '../pod-shape.ts';
import { quantityValue } from '../quantities.ts';
import { claimNameOf, UnresolvedReferenceError, type References } from '../references.ts';
import { tokenId } from '../tokens.ts';

export interface VolumeFile {
  readonly content: Buffer;
  readonly mode: number;
  /** Whose it is. Default root's. */
  readonly user?: number;
}

export type VolumeSource =
  | { readonly kind: 'folder'; readonly memory: boolean; readonly sizeBytes?: number }
  | {
      readonly kind: 'files';
      readonly files: ReadonlyMap<string, VolumeFile>;
      readonly hash: string;
      /** When a token in it is to be replaced. */
      readonly renewAtMs?: number;
    }
  | { readonly kind: 'path'; readonly path: string; readonly type: string; readonly readOnly: boolean }
  | EngineSource;

export interface EngineSource {
  readonly kind: 'engine';
  readonly volume: string;
  readonly persistentVolume: PersistentVolume;
  /** It lies on this node, and what becomes of its data is kept track of. */
  readonly isKept: boolean;
  readonly readOnly: boolean;
}

const DEFAULT_MODE = 0o644;

/** Throws UnresolvedReferenceError where something that it needs is not there, or is of a kind that this node cannot serve. */
export function volumeSource(volume: Volume, facts: DownwardFacts, references: References): VolumeSource {
  if (volume.emptyDir !== undefined) {
    const sizeBytes = quantityValue(volume.emptyDir.sizeLimit);
    return {
      kind: 'folder',
      memory: volume.emptyDir.medium === 'Memory',
      ...(sizeBytes === undefined ? {} : { sizeBytes }),
    };
  }
  if (volume.hostPath !== undefined)
    return { kind: 'path', path: volume.hostPath.path, type: volume.hostPath.type ?? '', readOnly: false };
  if (claimNameOf(facts.pod, volume) !== undefined) return claimSource(volume, facts, references);
  if (volume.configMap !== undefined) {
    const { name = '', items, optional, defaultMode } = volume.configMap;
    return files(configMapFiles({ name, items, optional, mode: defaultMode ?? DEFAULT_MODE }, references));
  }
  if (volume.secret !== undefined) {
    const { secretName: name = '', items, optional, defaultMode } = volume.secret;
    return files(secretFiles({ name, items, optional, mode: defaultMode ?? DEFAULT_MODE }, references));
  }
  if (volume.downwardAPI !== undefined)
    return files(downwardFiles(volume.downwardAPI.items ?? [], volume.downwardAPI.defaultMode ?? DEFAULT_MODE, facts));
  return volume.projected === undefined ? unsupported(volume) : projected(volume, facts, references);
}

/** Several sources in one folder. https://kubernetes.io/docs/concepts/storage/projected-volumes/ */
function projected(volume: Volume, facts: DownwardFacts, references: References): VolumeSource {
  const mode = volume.projected?.defaultMode ?? DEFAULT_MODE;
  const all = new Map<string, VolumeFile>();
  let renewAtMs = Infinity;
  for (const { configMap, secret, downwardAPI, serviceAccountToken } of volume.projected?.sources ?? []) {
    const put = (part: ReadonlyMap<string, VolumeFile>) => part.forEach((file, path) => all.set(path, file));
    if (configMap !== undefined) put(configMapFiles({ ...configMap, name: configMap.name ?? '', mode }, references));
    else if (secret !== undefined) put(secretFiles({ ...secret, name: secret.name ?? '', mode }, references));
    else if (downwardAPI !== undefined) put(downwardFiles(downwardAPI.items ?? [], mode, facts));
    else if (serviceAccountToken !== undefined) {
      const { file, renewAtMs: untilMs } = tokenFile(serviceAccountToken, { mode, facts, references });
      all.set(serviceAccountToken.path, file);
      renewAtMs = Math.min(renewAtMs, untilMs);
    } else unsupported(volume);
  }
  return { ...files(all), ...(renewAtMs < Infinity && { renewAtMs }) };
}

/** Only those may read a token who must: the pod's group, or the one user that all of its containers run as. */
function tokenFile(
  projection: ServiceAccountTokenProjection,
  context: { mode: number; facts: DownwardFacts; references: References },
): { file: VolumeFile; renewAtMs: number } {
  const found = context.references.tokens.get(tokenId(projection)) ?? { fault: 'no token was asked for' };
  if ('fault' in found) throw new UnresolvedReferenceError(found.fault);
  const { containers, initContainers = [], securityContext } = specOf(context.facts.pod);
  const users = new Set(
    [...containers, ...initContainers].map((each) => each.securityContext?.runAsUser ?? securityContext?.runAsUser),
  );
  const [user] = users.size === 1 ? users : [undefined];
  const isPrivate = user !== undefined || securityContext?.fsGroup !== undefined;
  const file = {
    content: Buffer.from(found.token, 'utf8'),
    mode: isPrivate ? 0o600 : context.mode,
    ...(user !== undefined && { user }),
  };
  return { file, renewAtMs: found.renewAtMs };
}

function unsupported(volume: Volume): never {
  const kind = Object.keys(volume).find((key) => key !== 'name') ?? 'nothing';
  throw new UnresolvedReferenceError(`volume "${volume.name}": ${kind} is not supported by this node`);
}

function claimSource(volume: Volume, facts: DownwardFacts, references: References): VolumeSource {
  const name = claimNameOf(facts.pod, volume) ?? '';
  const claim = references.claims.get(name);
  if (claim === undefined) throw new UnresolvedReferenceError(`persistentvolumeclaim "${name}" not found`);
  const persistent = references.volumes.get(name);
  const isLost = claim.status?.phase === 'Lost' && persistent !== undefined && dataStateOf(persistent) === 'lost';
  if (
    claim.spec?.volumeName === undefined ||
    (claim.status?.phase !== 'Bound' && !isLost) ||
    persistent === undefined
  ) {
    throw new UnresolvedReferenceError(`persistentvolumeclaim "${name}" is not bound`);
  }
  const { csi, hostPath, local } = persistent.spec ?? {};
  const readOnly = volume.persistentVolumeClaim?.readOnly ?? false;
  if (csi?.driver === VOLUME_DRIVER) {
    return {
      kind: 'engine',
      volume: csi.volumeHandle,
      persistentVolume: persistent,
      isKept: (persistent.spec?.nodeAffinity?.required?.nodeSelectorTerms ?? []).length > 0,
      readOnly: readOnly || csi.readOnly === true,
    };
  }
  if (hostPath !== undefined) return { kind: 'path', path: hostPath.path, type: hostPath.type ?? '', readOnly };
  if (local !== undefined) return { kind: 'path', path: local.path, type: 'Directory', readOnly };
  throw new UnresolvedReferenceError(
    `persistentvolume "${persistent.metadata.name}" is of a kind that this node cannot mount`,
  );
}

interface FileSource {
  readonly name: string;
  readonly items?: KeyToPath[] | undefined;
  readonly optional?: boolean | undefined;
  readonly mode: number;
}

function configMapFiles(source: FileSource, references: References): Map<string, VolumeFile> {
  const map = references.configMaps.get(source.name);
  if (map === undefined && source.optional !== true)
    throw new UnresolvedReferenceError(`configmap "${source.name}" not found`);
  const contents = new Map<string, Buffer>();
  for (const [key, text] of Object.entries(map?.data ?? {})) contents.set(key, Buffer.from(text, 'utf8'));
  for (const [key, bytes] of Object.entries(map?.binaryData ?? {})) contents.set(key, Buffer.from(bytes, 'base64'));
  return chosen(contents, source, 'configmap');
}

function secretFiles(source: FileSource, references: References): Map<string, VolumeFile> {
  const secret = references.secrets.get(source.name);
  if (secret === undefined && source.optional !== true)
    throw new UnresolvedReferenceError(`secret "${source.name}" not found`);
  const contents = new Map(
    Object.entries(secret?.data ?? {}).map(([key, bytes]) => [key, Buffer.from(bytes, 'base64')] as const),
  );
  return chosen(contents, source, 'secret');
}

function chosen(contents: ReadonlyMap<string, Buffer>, source: FileSource, kind: string): Map<string, VolumeFile> {
  if (source.items === undefined || source.items.length === 0)
    return new Map([...contents].map(([key, content]) => [key, { content, mode: source.mode }]));
  const found = new Map<string, VolumeFile>();
  for (const { key, path, mode } of source.items) {
    const content = contents.get(key);
    if (content !== undefined) found.set(path, { content, mode: mode ?? source.mode });
    else if (source.optional !== true)
      throw new UnresolvedReferenceError(`${kind} "${source.name}" references non-existent config key: ${key}`);
  }
  return found;
}

function downwardFiles(
  items: readonly DownwardAPIVolumeFile[],
  mode: number,
  facts: DownwardFacts,
): Map<string, VolumeFile> {
  return new Map(
    items.map((item) => {
      const text =
        item.fieldRef !== undefined
          ? fieldValue(item.fieldRef.fieldPath, facts)
          : item.resourceFieldRef !== undefined
            ? resourceValue(item.resourceFieldRef, facts, specOf(facts.pod).containers[0])
            : '';
      return [item.path, { content: Buffer.from(text, 'utf8'), mode: item.mode ?? mode }];
    }),
  );
}

function files(found: ReadonlyMap<string, VolumeFile>): Extract<VolumeSource, { kind: 'files' }> {
  const hash = createHash('sha256');
  for (const [path, { content, mode }] of [...found].toSorted(([a], [b]) => (a < b ? -1 : 1))) {
    hash.update(`${path}\0${mode}\0${content.length}\0`);
    hash.update(content);
  }
  return { kind: 'files', files: found, hash: hash.digest('hex').slice(0, 32) };
}
