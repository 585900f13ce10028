/**
 * With which credentials an image may be pulled: those of the pod's `imagePullSecrets` that are for its registry. Pure; called by the agent's operations.
 * https://kubernetes.io/docs/concepts/containers/images/#config-json
 */
import type { Secret } from '../../api-schemas/types/core-v1.ts';
import type { RegistryCredentials } from '../../runtime/container-runtime.ts';
import { normalizeImageReference } from '../../runtime/image-reference.ts';

const DOCKER_HUB = 'docker.io';
/** As `docker login` writes it. */
const DOCKER_HUB_NAMES: ReadonlySet<string> = new Set(['index.docker.io', 'registry-1.docker.io', DOCKER_HUB]);

interface Entry {
  readonly username?: unknown;
  readonly password?: unknown;
  readonly auth?: unknown;
  readonly identitytoken?: unknown;
}

/** The ones that say most of the image's name first. What is not the configuration of a registry is passed over. */
export function credentialsFor(image: string, secrets: readonly Secret[]): RegistryCredentials[] {
  const wanted = normalizeImageReference(image);
  return secrets
    .flatMap((secret) => Object.entries(entriesOf(secret)))
    .flatMap(([place, entry]) => {
      const pattern = patternOf(place);
      const credentials = credentialsOf(entry, pattern);
      return credentials !== undefined && covers(pattern, wanted) ? [{ pattern, credentials }] : [];
    })
    .toSorted((a, b) => b.pattern.length - a.pattern.length)
    .map(({ credentials }) => credentials);
}

function entriesOf({ type, data = {} }: Secret): Readonly<Record<string, Entry>> {
  const isNew = type === 'kubernetes.io/dockerconfigjson';
  const text = Buffer.from(data[isNew ? '.dockerconfigjson' : '.dockercfg'] ?? '', 'base64').toString('utf8');
  try {
    const parsed = JSON.parse(text) as { auths?: Record<string, Entry> } & Record<string, Entry>;
    return (isNew ? parsed.auths : parsed) ?? {};
  } catch {
    return {};
  }
}

/** `https://registry.example/v1/` is `registry.example`; a path after the host stays. */
function patternOf(place: string): string {
  const bare = place.replace(/^https?:\/\//, '').replace(/\/(v[12]\/?)?$/, '');
  const [host = '', ...path] = bare.split('/');
  return [DOCKER_HUB_NAMES.has(host) ? DOCKER_HUB : host, ...path].join('/');
}

function covers(pattern: string, image: string): boolean {
  const [host = '', ...path] = pattern.split('/');
  const [imageHost = '', ...imagePath] = image.split('/');
  const parts = host.split('.');
  const imageParts = imageHost.split('.');
  const fits = parts.length === imageParts.length && parts.every((part, at) => matches(part, imageParts[at] ?? ''));
  return fits && imagePath.join('/').startsWith(path.join('/'));
}

/** `*` stands for any part of a name between two dots. */
function matches(part: string, text: string): boolean {
  const [before = '', ...rest] = part.split('*');
  if (rest.length === 0) return part === text;
  const after = rest.at(-1) ?? '';
  return text.length >= before.length + after.length && text.startsWith(before) && text.endsWith(after);
}

function credentialsOf(entry: Entry | null, registry: string): RegistryCredentials | undefined {
  if (typeof entry !== 'object' || entry === null) return undefined;
  const serverAddress = registry.split('/')[0] ?? registry;
  if (typeof entry.identitytoken === 'string' && entry.identitytoken !== '')
    return { serverAddress, identityToken: entry.identitytoken };
  const joined = typeof entry.auth === 'string' ? Buffer.from(entry.auth, 'base64').toString('utf8') : '';
  const colon = joined.indexOf(':');
  const username = typeof entry.username === 'string' ? entry.username : joined.slice(0, Math.max(0, colon));
  const password = typeof entry.password === 'string' ? entry.password : joined.slice(colon + 1);
  return username === '' ? undefined : { serverAddress, username, password };
}
