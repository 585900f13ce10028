/**
 * Serves this process's metrics where Prometheus can fetch them: plain HTTP, one path, and no port unless one was asked for. Called by `run.ts`, and by `reckon run` for what is more than controllers.
 */
import { createServer, type Server } from 'node:http';
import { collectDefaultMetrics } from 'prom-client';
import { metricsRegistry } from './metrics.ts';
import { readMetricsAddress } from './metrics-address.ts';

export interface ServedMetrics {
  readonly port: number;
  /** The last of those who asked for it ends it. */
  close(): Promise<void>;
}

/** One a process, however many of its parts ask for one. */
let shared: { readonly address: string; readonly server: Promise<Server>; users: number } | undefined;
let countsProcess = false;

/** Rejects with a sentence where the address is taken, or is none. */
export async function serveMetrics(text: string): Promise<ServedMetrics> {
  const { host, port } = readMetricsAddress(text);
  const address = `${host}:${port}`;
  if (shared && shared.address !== address)
    throw new Error(`the metrics of this process are served at ${shared.address} already`);
  const own = (shared ??= { address, server: listen(host, port), users: 0 });
  own.users++;
  const leave = async (): Promise<void> => {
    own.users--;
    if (own.users > 0) return;
    if (shared === own) shared = undefined;
    const server = await own.server.catch(() => undefined);
    server?.closeAllConnections();
    await new Promise<void>((resolve) => (server ? server.close(() => resolve()) : resolve()));
  };
  try {
    const at = (await own.server).address();
    let left: Promise<void> | undefined;
    return {
      port: typeof at === 'object' && at !== null ? at.port : port,
      close: () => (left ??= leave()),
    };
  } catch (error) {
    await leave();
    throw error;
  }
}

function listen(host: string, port: number): Promise<Server> {
  if (!countsProcess) collectDefaultMetrics({ register: metricsRegistry });
  countsProcess = true;
  const server = createServer((request, response) => {
    const [path] = (request.url ?? '').split('?');
    if (path !== '/metrics') return void response.writeHead(404).end('there is /metrics\n');
    if (request.method !== 'GET' && request.method !== 'HEAD')
      return void response.writeHead(405, { allow: 'GET, HEAD' }).end();
    metricsRegistry.metrics().then(
      (text) => response.writeHead(200, { 'content-type': metricsRegistry.contentType }).end(text),
      (error: unknown) => response.writeHead(500).end(`${error instanceof Error ? error.message : String(error)}\n`),
    );
  });
  // Being asked about keeps nothing running.
  server.unref();
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) =>
      reject(
        new Error(
          `metrics cannot be served at ${host}:${port}: ${cause.code === 'EADDRINUSE' ? 'another program has that port' : cause.message}`,
          { cause },
        ),
      ),
    );
    server.listen(port, host, () => {
      server.on('error', () => undefined);
      resolve(server);
    });
  });
}
