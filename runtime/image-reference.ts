/** Image names as Docker resolves them: `redis` is `docker.io/library/redis:latest`. The agent compares and pulls by the full form. */

const DEFAULT_REGISTRY = 'docker.io';

/** The full form of a reference: registry, repository, and a tag unless a digest is given. */
export function normalizeImageReference(reference: string): string {
  const [withoutDigest = '', digest] = reference.split('@');
  const lastSlash = withoutDigest.lastIndexOf('/');
  const colon = withoutDigest.indexOf(':', lastSlash + 1);
  const name = colon === -1 ? withoutDigest : withoutDigest.slice(0, colon);
  const tag = colon === -1 ? '' : withoutDigest.slice(colon + 1);
  const slash = name.indexOf('/');
  const first = slash === -1 ? '' : name.slice(0, slash);
  const hasRegistry = first.includes('.') || first.includes(':') || first === 'localhost';
  const registry = hasRegistry ? first : DEFAULT_REGISTRY;
  const path = hasRegistry ? name.slice(slash + 1) : name;
  const repository = registry === DEFAULT_REGISTRY && !path.includes('/') ? `library/${path}` : path;
  const suffix = digest === undefined ? `:${tag === '' ? 'latest' : tag}` : `${tag === '' ? '' : `:${tag}`}@${digest}`;
  return `${registry}/${repository}${suffix}`;
}

/** Whether this is an image reference at all: lower case, no spaces, no empty parts. */
export function isImageReference(reference: string): boolean {
  return (
    /^[a-z0-9]([a-z0-9._:/-]*[a-z0-9])?(:[\w][\w.-]{0,127})?(@[a-z0-9+._-]+:[0-9a-fA-F]{32,})?$/.test(reference) &&
    !reference.includes('//')
  );
}
