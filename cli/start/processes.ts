/**
 * Which processes an instance consists of, and how each of ours is started: the one place where the choice of `npm start` (who has a process of its own) is written down.
 */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Instance } from '../instance.ts';
import type { ProcessSpec } from './supervised-process.ts';

/** The compiled program's root: `dist/`. */
const compiled = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));

/** These have a process each; all others share one (a Node process idles at about 60 MB). */
const ownProcess = ['deployments', 'services', 'volumes', 'pods'];
export const projectionName = 'projection';
export const sharedProcess = 'controllers';

/** The controllers that this program has: the folders of `controllers/`. */
export function controllerNames(): readonly string[] {
  const folder = path.join(compiled, 'controllers');
  if (!existsSync(folder)) return [];
  return readdirSync(folder).filter((name) => existsSync(path.join(folder, name, 'index.js')));
}

export interface ChildOptions {
  readonly instance: Instance;
  readonly environment: Readonly<Record<string, string>>;
}

/** A controller that is a module of the user's own, given as a path. */
export const isModule = (name: string): boolean => /[./\\]/.test(name);

/** The program in a few large files, which begins sooner; but a module of the user's own imports the SDK in small ones, and there must be one SDK in a process. */
function programFor([command, ...names]: readonly string[]): string {
  const form = command === 'run' && names.some(isModule) ? '.' : 'program';
  return path.join(compiled, form, 'cli', 'main.js');
}

/** A process of ours: this same program with other words. */
export function ownProcessSpec(name: string, words: readonly string[], options: ChildOptions): ProcessSpec {
  return {
    name,
    command: process.execPath,
    args: ['--enable-source-maps', programFor(words), ...words],
    environment: { ...options.environment, RECKON_HOME: options.instance.home },
    stopSignal: 'SIGTERM',
    channel: true,
  };
}

/** One specification a process for the wanted controllers and the projection. */
export function controllerSpecs(wanted: readonly string[], options: ChildOptions): readonly ProcessSpec[] {
  const alone = wanted.filter((name) => name === projectionName || ownProcess.includes(name));
  const together = wanted.filter((name) => !alone.includes(name));
  const specs = alone.map((name) => ownProcessSpec(name, ['run', name], options));
  return together.length === 0 ? specs : [...specs, ownProcessSpec(sharedProcess, ['run', ...together], options)];
}
