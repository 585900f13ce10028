/**
 * Label selectors as they stand in `spec.selector` (https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#resources-that-support-set-based-requirements). Used by the
 * World's lists and by controllers that adopt by selector.
 */
import type { LabelSelector } from './world.ts';

/** An empty selector matches everything, an absent one nothing, as in Kubernetes. */
export function matchesSelector(
  selector: LabelSelector | undefined,
  labels: Readonly<Record<string, string>> | undefined,
): boolean {
  if (!selector) return false;
  const value = (key: string): string | undefined => (labels && Object.hasOwn(labels, key) ? labels[key] : undefined);
  for (const [key, wanted] of Object.entries(selector.matchLabels ?? {})) if (value(key) !== wanted) return false;
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    const label = value(key);
    switch (operator) {
      case 'In':
        if (label === undefined || !values?.includes(label)) return false;
        break;
      case 'NotIn':
        if (label !== undefined && values?.includes(label)) return false;
        break;
      case 'Exists':
        if (label === undefined) return false;
        break;
      case 'DoesNotExist':
        if (label !== undefined) return false;
        break;
      default:
        return false;
    }
  }
  return true;
}

/** Whether a selector selects everything: a controller refuses to act on one. */
export function isEmptySelector(selector: LabelSelector | undefined): boolean {
  return Object.keys(selector?.matchLabels ?? {}).length === 0 && (selector?.matchExpressions ?? []).length === 0;
}
