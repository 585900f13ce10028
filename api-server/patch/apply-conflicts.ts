/** How server-side apply refuses a configuration that would change what others own: Kubernetes' sentence, and a cause for each field. Called by apply.ts. */
import { printPath, type Path } from './field-set.ts';
import type { Manager } from './managed-fields.ts';

/** A field that the configuration would change and another manager owns. */
export interface ApplyConflict {
  readonly manager: Manager;
  readonly path: Path;
}

/** As it stands in `details.causes` of the 409. */
export interface ConflictCause {
  readonly reason: 'FieldManagerConflict';
  readonly message: string;
  readonly field: string;
}

export interface Refusal {
  readonly kind: 'conflicts';
  readonly message: string;
  readonly causes: readonly ConflictCause[];
}

export function refuse(conflicts: readonly ApplyConflict[]): Refusal {
  const causes = conflicts.map(({ manager, path }) => ({
    reason: 'FieldManagerConflict' as const,
    message: `conflict with ${printManager(manager)}`,
    field: printPath(path),
  }));
  return { kind: 'conflicts', message: conflictMessage(conflicts), causes };
}

/** Kubernetes' sentence: one conflict on one line, several grouped by manager. */
function conflictMessage(conflicts: readonly ApplyConflict[]): string {
  const [first] = conflicts;
  if (conflicts.length === 1 && first)
    return `Apply failed with 1 conflict: conflict with ${printManager(first.manager)}: ${printPath(first.path)}`;
  const byManager = new Map<string, string[]>();
  for (const { manager, path } of conflicts) {
    const heading = `conflicts with ${printManager(manager)}:`;
    byManager.set(heading, [...(byManager.get(heading) ?? []), `- ${printPath(path)}`]);
  }
  return `Apply failed with ${conflicts.length} conflicts: ${[...byManager].flatMap(([heading, lines]) => [heading, ...lines]).join('\n')}`;
}

function printManager({ manager, subresource, operation, apiVersion }: Manager): string {
  const name = `${JSON.stringify(manager)}${subresource === '' ? '' : ` with subresource ${JSON.stringify(subresource)}`}`;
  return operation === 'Update' ? `${name} using ${apiVersion}` : name;
}
