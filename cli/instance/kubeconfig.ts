/** Writes kubeconfig files with embedded certificates: the admin's for kubectl, and one for each controller and agent. */
import { writeFile } from 'node:fs/promises';
import { stringify } from 'yaml';
import type { KeyAndCertificate } from './certificates.ts';

export interface KubeconfigOptions {
  /** `https://127.0.0.1:6443`. */
  readonly server: string;
  /** PEM of the authority that signed the server's certificate. */
  readonly ca: string;
  readonly user: string;
  readonly credentials: KeyAndCertificate;
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

export async function writeKubeconfig(file: string, options: KubeconfigOptions): Promise<void> {
  const { server, ca, user, credentials } = options;
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: 'reckon', cluster: { server, 'certificate-authority-data': base64(ca) } }],
    users: [
      {
        name: user,
        user: { 'client-certificate-data': base64(credentials.cert), 'client-key-data': base64(credentials.key) },
      },
    ],
    contexts: [{ name: 'reckon', context: { cluster: 'reckon', user } }],
    'current-context': 'reckon',
  };
  await writeFile(file, stringify(config), { mode: 0o600 });
}
