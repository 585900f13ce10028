/**
 * The part of JSONPath that columns are written in: `.a.b`, `['a.b']`, `[0]`, `[-1:]`, `[*]`, `..a`, and `[?(@.type=="Ready")]` of custom resources. Called by `table.ts`; each path is taken apart once.
 * https://kubernetes.io/docs/reference/kubectl/jsonpath/
 */

type Step =
  | { readonly is: 'field'; readonly name: string }
  | { readonly is: 'index'; readonly index: number }
  | { readonly is: 'slice'; readonly from: number; readonly to: number | undefined }
  | { readonly is: 'all' }
  /** Everything below, at any depth. Once in a path: each more would multiply the work. */
  | { readonly is: 'descend' }
  /** Items of which the path finds something that compares so; without an operator, anything at all. */
  | { readonly is: 'where'; readonly path: readonly Step[]; readonly operator: string; readonly value: unknown };

const FIELD = /^\.?((?:\\.|[^.[\]\\])+)/;
const QUOTED = /^\[\s*(['"])(.*?)\1\s*\]/;
const INDEX = /^\[\s*(-?\d+)\s*\]/;
const SLICE = /^\[\s*(-?\d*)\s*:\s*(-?\d*)\s*\]/;
const DESCEND = /^\.(?=\.)/;
const ALL = /^(?:\[\s*\*\s*\]|\.\*)/;
const WHERE =
  /^\[\?\(\s*@((?:\.[^=!<>\s)]+)+)\s*(?:(==|!=|<=|>=|<|>)\s*(?:"([^"]*)"|'([^']*)'|(true|false|-?\d+(?:\.\d+)?))\s*)?\)\]/;

const MAX_REMEMBERED = 2_000;
const remembered = new Map<string, readonly Step[] | undefined>();

/** Undefined for a path that is not understood. */
export function parsePath(path: string): readonly Step[] | undefined {
  if (remembered.has(path)) return remembered.get(path);
  const steps = parse(path.replace(/^\{(.*)\}$/, '$1').replace(/^\$/, ''));
  if (remembered.size < MAX_REMEMBERED) remembered.set(path, steps);
  return steps;
}

function parse(path: string): readonly Step[] | undefined {
  const steps: Step[] = [];
  let rest = path;
  while (rest !== '') {
    let match: RegExpExecArray | null;
    if ((match = DESCEND.exec(rest))) {
      if (steps.some(({ is }) => is === 'descend')) return undefined;
      steps.push({ is: 'descend' });
    } else if ((match = ALL.exec(rest))) steps.push({ is: 'all' });
    else if ((match = SLICE.exec(rest)))
      steps.push({ is: 'slice', from: Number(match[1]), to: match[2] === '' ? undefined : Number(match[2]) });
    else if ((match = INDEX.exec(rest))) steps.push({ is: 'index', index: Number(match[1]) });
    else if ((match = QUOTED.exec(rest))) steps.push({ is: 'field', name: match[2] ?? '' });
    else if ((match = WHERE.exec(rest))) {
      const inner = parse(match[1] ?? '');
      if (!inner) return undefined;
      const value: unknown = match[3] ?? match[4] ?? (JSON.parse(match[5] ?? 'null') as unknown);
      steps.push({ is: 'where', path: inner, operator: match[2] ?? '', value });
    } else if ((match = FIELD.exec(rest)))
      steps.push({ is: 'field', name: (match[1] ?? '').replaceAll(/\\(.)/g, '$1') });
    else return undefined;
    rest = rest.slice(match[0].length);
  }
  return steps;
}

/** Everything that a path finds, in order. */
export function findAll(value: unknown, path: string): unknown[] {
  const steps = parsePath(path);
  return steps ? follow([value], steps) : [];
}

function follow(values: unknown[], steps: readonly Step[]): unknown[] {
  for (const step of steps) values = values.flatMap((value) => take(value, step));
  return values;
}

function take(value: unknown, step: Step): unknown[] {
  if (typeof value !== 'object' || value === null) return [];
  const items: readonly unknown[] = Array.isArray(value) ? value : Object.values(value);
  switch (step.is) {
    case 'field': {
      const found: unknown = Object.hasOwn(value, step.name)
        ? (value as Record<string, unknown>)[step.name]
        : undefined;
      return found === undefined || found === null ? [] : [found];
    }
    case 'index': {
      const found = Array.isArray(value) ? items.at(step.index) : undefined;
      return found === undefined ? [] : [found];
    }
    case 'slice':
      return Array.isArray(value) ? items.slice(step.from, step.to) : [];
    case 'all':
      return [...items];
    case 'descend':
      return [value, ...items.flatMap((item) => take(item, step))];
    case 'where':
      return items.filter((item) => follow([item], step.path).some((found) => compares(found, step)));
    default:
      return step satisfies never;
  }
}

/** Only like is compared with like. */
function compares(
  found: unknown,
  { operator, value }: { readonly operator: string; readonly value: unknown },
): boolean {
  if (operator === '') return true;
  if (operator === '==') return found === value;
  if (operator === '!=') return found !== value;
  if (typeof found !== typeof value || (typeof found !== 'number' && typeof found !== 'string')) return false;
  const other = value as typeof found;
  if (operator === '<') return found < other;
  if (operator === '>') return found > other;
  return operator === '<=' ? found <= other : found >= other;
}
