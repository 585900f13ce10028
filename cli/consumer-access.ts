/** With what the API server signs the credentials of event consumers: the embedded NATS' own keys, or, for an external NATS, the signing key that its operator supplies. Called by `api-server.ts`. */
import { readFile } from 'node:fs/promises';
import type { ConsumerAccessOptions } from '../event-log/consumer-access.ts';
import { natsUrl, type Instance } from './instance.ts';

/** Empty where an external NATS gives no key: then there are no consumers' credentials. Rejects with a sentence that names the variable. */
export async function consumerAccess(instance: Instance): Promise<{ consumerAccess?: ConsumerAccessOptions }> {
  if (!process.env['NATS_URL']) {
    const { seeds } = instance.credentials.nats;
    return { consumerAccess: { kind: 'own', seeds, system: { url: natsUrl(instance, 'system') } } };
  }
  const [account, file] = [process.env['NATS_CONSUMERS_ACCOUNT'], process.env['NATS_CONSUMERS_KEY']];
  if (!account && !file) return {};
  if (!account || !/^A[A-Z2-7]{55}$/.test(account))
    throw new Error("NATS_CONSUMERS_ACCOUNT: expected the public key of the consumers' account (A…)");
  if (!file) throw new Error('NATS_CONSUMERS_KEY: expected the path of a file with the seed of a signing key (SA…)');
  const signingSeed = /\bSA[A-Z2-7]{56}\b/.exec(await readFile(file, 'utf8'))?.[0];
  if (signingSeed === undefined) throw new Error(`NATS_CONSUMERS_KEY: ${file} holds no seed of an account's key (SA…)`);
  return { consumerAccess: { kind: 'supplied', account, signingSeed } };
}
