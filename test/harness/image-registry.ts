/** A registry of one image, on loopback, that gives it only to those who have its password: what Docker asks of a registry, and no more. https://distribution.github.io/distribution/spec/api/ */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import tar from 'tar-stream';
import type { Teardown } from './servers.ts';

export interface ImageRegistry {
  /** `127.0.0.1:port`. */
  readonly address: string;
  /** The one image, whose program is a static busybox. */
  readonly image: string;
  readonly username: string;
  readonly password: string;
}

const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
const TYPES = 'application/vnd.docker.distribution.manifest.v2+json';

export async function startImageRegistry(t: Teardown, busybox: string): Promise<ImageRegistry> {
  const [username, password] = ['puller', 'open:sesame'];
  const blobs = new Map<string, Buffer>();
  const keep = (bytes: Buffer): { size: number; digest: string } => {
    blobs.set(digestOf(bytes), bytes);
    return { size: bytes.length, digest: digestOf(bytes) };
  };
  const layer = await layerOf(await readFile(busybox));
  const config = Buffer.from(
    JSON.stringify({
      architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
      os: 'linux',
      config: {},
      rootfs: { type: 'layers', diff_ids: [digestOf(layer)] },
    }),
  );
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: TYPES,
      config: { mediaType: 'application/vnd.docker.container.image.v1+json', ...keep(config) },
      layers: [{ mediaType: 'application/vnd.docker.image.rootfs.diff.tar.gzip', ...keep(gzipSync(layer)) }],
    }),
  );
  blobs.set('1', manifest).set(digestOf(manifest), manifest);
  const expected = `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}`;
  const server = http.createServer((request, response) => {
    if (request.headers.authorization !== expected) {
      response.writeHead(401, { 'www-authenticate': 'Basic realm="registry"' }).end();
      return;
    }
    const [, kind, name = ''] = /^\/v2\/app\/(manifests|blobs)\/(.+)$/.exec(request.url ?? '') ?? [];
    const bytes = blobs.get(name);
    if (request.url === '/v2/') response.end('{}');
    else if (bytes === undefined) response.writeHead(404).end();
    else {
      const type = kind === 'manifests' ? TYPES : 'application/octet-stream';
      response.setHeader('content-type', type).setHeader('content-length', bytes.length);
      response.setHeader('docker-content-digest', digestOf(bytes));
      response.end(request.method === 'HEAD' ? undefined : bytes);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { address, image: `${address}/app:1`, username, password };
}

async function layerOf(program: Buffer): Promise<Buffer> {
  const pack = tar.pack();
  pack.entry({ name: 'busybox', mode: 0o755, mtime: new Date(0) }, program);
  pack.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of pack) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
