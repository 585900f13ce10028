/** What every opener of this room begins with: a connection on which what it needs is there, or none at all. */
import { LogConnection } from './connection.ts';
import { openTimeoutOf, type ConnectionSettings } from './connection-settings.ts';
import { awaitStream, ensureStreams } from './streams.ts';
import { streamNames } from './subjects.ts';

/** For the API server, which makes the streams where they are missing. */
export function openWithStreams(
  settings: ConnectionSettings & { readonly prefix?: string; readonly replicas?: number },
): Promise<LogConnection> {
  const names = streamNames(settings.prefix);
  return openWhen(settings, (connection, timeoutMs) =>
    ensureStreams(connection, { names, replicas: settings.replicas, timeoutMs }),
  );
}

/** For everyone else, who waits until the stream is there. */
export function openForStream(settings: ConnectionSettings, stream: string): Promise<LogConnection> {
  return openWhen(settings, (connection, timeoutMs) => awaitStream(connection, stream, timeoutMs));
}

async function openWhen(
  settings: ConnectionSettings,
  ready: (connection: LogConnection, timeoutMs: number) => Promise<void>,
): Promise<LogConnection> {
  const connection = await LogConnection.open(settings);
  try {
    await ready(connection, openTimeoutOf(settings));
  } catch (error) {
    await connection.close();
    throw error;
  }
  return connection;
}
