/**
 * Removes what an instance of a test left in the Docker engine and the kernel: containers and volumes by the instance's label, its network, its nftables table.
 */
import http from 'node:http';
import type { Instance } from '../../cli/instance.ts';
import { findProgram, runCommand } from '../../cli/set-up/command.ts';

const instanceLabel = 'reckon.dev/instance';

export async function removeEverythingOf(instance: Instance, dockerHost: string): Promise<void> {
  const { clusterId, dockerNetwork, nftTable } = instance.settings;
  const labelled = encodeURIComponent(JSON.stringify({ label: [`${instanceLabel}=${clusterId}`] }));
  const containers = (await docker(dockerHost, 'GET', `/containers/json?all=1&filters=${labelled}`)) as {
    Id: string;
  }[];
  for (const { Id } of containers) await docker(dockerHost, 'DELETE', `/containers/${Id}?force=1&v=1`);
  const volumes = (await docker(dockerHost, 'GET', `/volumes?filters=${labelled}`)) as {
    Volumes: { Name: string }[] | null;
  };
  for (const { Name } of volumes.Volumes ?? []) await docker(dockerHost, 'DELETE', `/volumes/${Name}?force=1`);
  await docker(dockerHost, 'DELETE', `/networks/${dockerNetwork}`);
  const nft = await findProgram('nft');
  for (const family of ['ip', 'inet'])
    if (nft !== undefined) await runCommand(nft, ['delete', 'table', family, nftTable]);
}

/** The parsed answer; what is not there is not missed. */
export function docker(host: string, method: 'GET' | 'DELETE' | 'POST', path: string): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath: new URL(host).pathname, method, path, timeout: 60_000 }, (response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => (body += chunk.toString()));
      // An engine that is killed in the middle of its answer.
      response.on('error', reject);
      response.on('end', () => {
        try {
          resolve(body === '' ? undefined : JSON.parse(body));
        } catch (error) {
          reject(error as Error);
        }
      });
    });
    request.on('timeout', () => request.destroy(new Error(`Docker did not answer ${method} ${path} in time`)));
    request.on('error', reject);
    request.end();
  });
}
