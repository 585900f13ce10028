/**
 * Structured logging for every process that runs controllers: JSON lines on stderr, a constant message and fields, so that logs can be searched and counted by message.
 */
import { destination, type Logger, pino, stdTimeFunctions } from 'pino';

export type { Logger } from 'pino';

export interface LoggerOptions {
  /** The process or controller, as it stands in every line. */
  readonly name: string;
  /** `trace`, `debug`, `info`, `warn`, `error`. Default `info`. */
  readonly level?: string;
}

export function createLogger(options: LoggerOptions): Logger {
  return pino(
    {
      name: options.name,
      level: options.level ?? 'info',
      base: { pid: process.pid },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
    },
    destination({ dest: 2, sync: true }),
  );
}
