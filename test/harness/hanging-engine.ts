/**
 * A Docker engine that hangs where a test wants it to: a socket in front of a real one that passes everything on, but for the calls about chosen containers, which it takes and never answers, as dockerd 20.10 does after it was
 * killed at the wrong moment.
 */
import http from 'node:http';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Teardown } from './servers.ts';

export interface HangingEngine {
  readonly socketPath: string;
  /** From now on nothing is said of this container. */
  hangOver(id: string): void;
  /** What was not answered is cut off, and what comes is answered again. */
  recover(): void;
  /** Cuts every connection, as an engine does that ends. */
  cut(): void;
}

export async function startHangingEngine(t: Teardown, dockerSocket: string): Promise<HangingEngine> {
  const folder = await mkdtemp(path.join(tmpdir(), 'reckon-hanging-'));
  const socketPath = path.join(folder, 'docker.sock');
  const silent = new Set<string>();
  const sockets = new Set<net.Socket>();
  const unanswered = new Set<net.Socket>();
  const hangs = (request: http.IncomingMessage): boolean => {
    const isSilent = [...silent].some((id) => request.url?.includes(id) === true);
    if (isSilent) unanswered.add(request.socket);
    return isSilent;
  };
  const server = http.createServer((request, response) => {
    if (hangs(request)) return;
    const { method, url, headers } = request;
    const onward = http.request({ socketPath: dockerSocket, method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      response.flushHeaders();
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    response.on('close', () => onward.destroy());
    request.pipe(onward);
  });
  // Exec and attach take the connection over.
  server.on('upgrade', (request: http.IncomingMessage, socket: net.Socket, head: Buffer) => {
    if (hangs(request)) return;
    const onward = net.connect(dockerSocket, () => {
      const { rawHeaders } = request;
      const lines = rawHeaders.flatMap((name, at) => (at % 2 === 0 ? [`${name}: ${rawHeaders[at + 1] ?? ''}`] : []));
      onward.write(`${request.method} ${request.url} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`);
      onward.write(head);
      onward.pipe(socket).pipe(onward);
    });
    for (const [one, other] of [
      [onward, socket],
      [socket, onward],
    ] as const)
      one.on('error', () => other.destroy()).on('close', () => other.destroy());
  });
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  t.teardown(async () => {
    cut();
    await new Promise((resolve) => server.close(resolve));
    await rm(folder, { recursive: true });
  });
  return {
    socketPath,
    hangOver: (id) => void silent.add(id),
    recover() {
      silent.clear();
      for (const socket of unanswered) socket.destroy();
      unanswered.clear();
    },
    cut,
  };
}
