/** Which kubeconfigs count, as kubectl has it: the one that is named, or all of $KUBECONFIG merged, or this folder's instance, or ~/.kube/config. Used by `connection.ts` and `complete.ts`. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { mergeKubeconfigs, type Kubeconfig } from '../../sdk/kubeconfig.ts';
import { adminIdentity, homeFolder, kubeconfigFile } from '../instance.ts';

/** Nothing says where the API server is. */
export class NoKubeconfigError extends Error {
  override readonly name = 'NoKubeconfigError';
}

/** Files that $KUBECONFIG names and that are not there are passed over, as by kubectl. Throws NoKubeconfigError. */
export function kubeconfigFiles(named: string | undefined): readonly string[] {
  if (named !== undefined) return [named];
  const listed = (process.env['KUBECONFIG'] ?? '').split(path.delimiter).filter(Boolean);
  if (listed.length > 0) {
    const found = listed.filter((file) => existsSync(file));
    if (found.length > 0) return found;
    throw new NoKubeconfigError(`There is no kubeconfig at ${listed.join(' or ')}, which KUBECONFIG names.`);
  }
  const places = [kubeconfigFile(homeFolder(), adminIdentity), path.join(homedir(), '.kube', 'config')];
  const found = places.find((file) => existsSync(file));
  if (found === undefined)
    throw new NoKubeconfigError(
      `There is no kubeconfig at ${places.join(' or ')}. Start an instance here (npm start), or name one with --kubeconfig or KUBECONFIG.`,
    );
  return [found];
}

export const readMergedKubeconfig = (files: readonly string[]): Kubeconfig => mergeKubeconfigs(files);
