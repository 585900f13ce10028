/** What a proof needs around it: things to tidy up at its end, and servers of its own where `npm run prove` has not brought any. */
import type { Teardown } from '../harness/servers.ts';
import { startTestServers } from '../harness/test-servers.ts';

export interface Around extends Teardown {
  /** Last comes first. */
  end(): Promise<void>;
}

export async function around(): Promise<Around> {
  const handlers: (() => Promise<void> | void)[] = [];
  if (!process.env['RECKON_TEST_SERVERS']) {
    const { addresses, stop } = await startTestServers(() => undefined);
    process.env['RECKON_TEST_SERVERS'] = JSON.stringify(addresses);
    handlers.push(stop);
  }
  const tidyUp = async (): Promise<void> => {
    for (const handler of handlers.splice(0).toReversed()) await handler();
  };
  let ending: Promise<void> | undefined;
  const end = (): Promise<void> => (ending ??= tidyUp());
  // Stopped by hand, it leaves nothing behind either; what has been noted of its progress stays.
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void end().finally(() => process.exit(130)));
  return {
    teardown: (handler) => void handlers.push(handler),
    end,
  };
}
