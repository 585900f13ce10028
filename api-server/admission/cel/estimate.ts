/**
 * What a rule may cost at worst, told from how large what it looks at can become (`shape.ts`).
 * Units and weights are those of Kubernetes' own estimate, function for function only roughly: a node is one, ten characters of a text are one, an element of a list is one. Called by
 * `custom-resources/validation-rules.ts` for every rule of a definition. https://kubernetes.io/docs/reference/using-api/cel/#resource-constraints
 */
import { ANY, itemOf, larger, MAX_BYTES, SCALAR, text, type Shape } from './shape.ts';

const TEXT_WEIGHT = 0.1;
const PATTERN_WEIGHT = 0.25;

export interface Estimate {
  readonly cost: number;
  /** What has no bound and is looked at. */
  readonly bounds: ReadonlySet<string>;
}

/** Of an expression as the library has parsed it. */
export function estimate(ast: unknown, self: Shape): Estimate {
  const estimator = new Estimator();
  const { cost } = estimator.of(
    ast,
    new Map([
      ['self', self],
      ['oldSelf', self],
    ]),
  );
  return { cost, bounds: estimator.bounds };
}

interface Part {
  readonly cost: number;
  readonly shape: Shape;
}

interface Node {
  readonly op: string;
  readonly args: unknown;
}

type Scope = ReadonlyMap<string, Shape>;

const isNode = (value: unknown): value is Node =>
  typeof value === 'object' && value !== null && 'op' in value && 'args' in value;

const LOOPS = new Set(['all', 'exists', 'exists_one', 'map', 'filter']);
/** Their expression is evaluated once, with what the optional holds. */
const OPTIONAL_MACROS = new Set(['optMap', 'optFlatMap']);
/** A turn of a loop beside what it evaluates. */
const TURN_COST = 3;
const PATTERNS = new Set(['matches', 'matchesInLinearTime', 'find', 'findAll']);
const PREFIXES = new Set(['startsWith', 'endsWith']);
const SETS = new Set(['contains', 'equivalent', 'intersects']);
/** Whose answer is the receiver, or what was in it. */
const SAME = new Set([
  'value',
  'lowerAscii',
  'upperAscii',
  'trim',
  'substring',
  'charAt',
  'reverse',
  'find',
  'min',
  'max',
]);

class Estimator {
  readonly bounds = new Set<string>();

  of(value: unknown, scope: Scope): Part {
    if (!isNode(value)) return { cost: 0, shape: SCALAR };
    const { op, args } = value;
    const parts = (Array.isArray(args) ? args : [args]) as readonly unknown[];
    switch (op) {
      case 'value':
        return { cost: 0, shape: typeof args === 'string' ? text(args.length) : SCALAR };
      case 'id':
        return { cost: 1, shape: scope.get(String(args)) ?? ANY };
      case '.':
      case '.?':
        return this.#field(parts, scope);
      case '[]':
      case '[?]':
        return this.#element(parts, scope);
      case 'call':
      case 'rcall':
        return this.#call(op, parts, scope);
      case '?:': {
        const [condition, yes, no] = parts.map((part) => this.of(part, scope)) as [Part, Part, Part];
        return { cost: condition.cost + Math.max(yes.cost, no.cost), shape: larger(yes.shape, no.shape) };
      }
      case 'list':
      case 'map':
        return this.#literal(op, parts, scope);
      default:
        return this.#operator(op, parts, scope);
    }
  }

  #field([object, name]: readonly unknown[], scope: Scope): Part {
    const { cost, shape } = this.of(object, scope);
    const found = shape.kind === 'map' ? shape.item?.() : shape.field?.(String(name));
    return { cost: cost + 1, shape: found ?? ANY };
  }

  #element([list, index]: readonly unknown[], scope: Scope): Part {
    const [from, at] = [this.of(list, scope), this.of(index, scope)];
    return { cost: from.cost + at.cost + 1, shape: from.shape.item?.() ?? ANY };
  }

  #literal(op: string, parts: readonly unknown[], scope: Scope): Part {
    const found = parts.flat().map((part) => this.of(part, scope));
    const item = found.map(({ shape }) => shape).reduce(larger, SCALAR);
    const cost = found.reduce((sum, one) => sum + one.cost, 10);
    return { cost, shape: { kind: op === 'list' ? 'list' : 'map', size: parts.length, item: () => item } };
  }

  #operator(op: string, parts: readonly unknown[], scope: Scope): Part {
    const found = parts.map((part) => this.of(part, scope));
    const cost = found.reduce((sum, one) => sum + one.cost, 1);
    const [left = SCALAR, right = SCALAR] = found.map(({ shape }) => shape);
    switch (op) {
      case '==':
      case '!=':
        return { cost: cost + this.#comparing(left, right), shape: SCALAR };
      case 'in':
        return {
          cost: cost + (right.kind === 'map' ? 1 : this.#seen(right) * this.#comparing(left, itemOf(right))),
          shape: SCALAR,
        };
      case '+': {
        if (left.kind === 'scalar' && right.kind === 'scalar') return { cost, shape: SCALAR };
        const most = larger(left, right);
        return {
          cost: cost + this.#reading(left) + this.#reading(right),
          shape: { ...most, size: left.size + right.size },
        };
      }
      default:
        return { cost, shape: SCALAR };
    }
  }

  #call(op: string, parts: readonly unknown[], scope: Scope): Part {
    const [given, first, rest] = parts;
    const name = String(given);
    if (op === 'call') return this.#function(name, undefined, this.#all(first, scope));
    const args = (Array.isArray(rest) ? rest : []) as readonly unknown[];
    const of = isNode(first) && first.op === 'id' ? String(first.args) : '';
    if (of === 'cel' && name === 'bind') return this.#bind(args, scope);
    const receiver = this.of(first, scope);
    if (LOOPS.has(name)) return this.#loop(name, receiver, args, scope);
    if (OPTIONAL_MACROS.has(name)) return this.#bind([args[0], first, args[1]], scope);
    return this.#function(name, of === 'sets' || of === 'optional' ? undefined : receiver, this.#all(args, scope), of);
  }

  #all(args: unknown, scope: Scope): readonly Part[] {
    return (Array.isArray(args) ? args : []).map((arg) => this.of(arg, scope));
  }

  #bind([variable, value, then]: readonly unknown[], scope: Scope): Part {
    const bound = this.of(value, scope);
    const { cost, shape } = this.of(then, withVariable(scope, variable, bound.shape));
    return { cost: cost + bound.cost + 1, shape };
  }

  #loop(name: string, { cost, shape }: Part, [variable, ...steps]: readonly unknown[], scope: Scope): Part {
    const item = shape.kind === 'map' ? text(MAX_BYTES) : itemOf(shape);
    const found = steps.map((step) => this.of(step, withVariable(scope, variable, item)));
    const turn = found.reduce((sum, one) => sum + one.cost, TURN_COST);
    const last = found.at(-1)?.shape ?? SCALAR;
    const size = this.#seen(shape);
    const list = (element: Shape): Shape => ({ kind: 'list', size, item: () => element });
    const result = name === 'map' ? list(last) : name === 'filter' ? list(item) : SCALAR;
    return { cost: cost + size * turn, shape: result };
  }

  #function(name: string, receiver: Part | undefined, args: readonly Part[], of = ''): Part {
    const all = receiver ? [receiver, ...args] : args;
    const cost = all.reduce((sum, part) => sum + part.cost, 1);
    const [first = SCALAR, second = SCALAR] = all.map(({ shape }) => shape);
    if (name === 'size' || name === 'has') return { cost, shape: SCALAR };
    const shape = this.#result(
      name,
      all.map((part) => part.shape),
    );
    if (PATTERNS.has(name))
      return { cost: cost + (1 + this.#reading(first)) * Math.max(1, second.size * PATTERN_WEIGHT), shape };
    if (PREFIXES.has(name)) return { cost: cost + this.#reading(second), shape };
    if (of === 'sets' && SETS.has(name)) return { cost: cost + this.#seen(first) * this.#seen(second), shape };
    if (name === 'contains' && receiver)
      return { cost: cost + (1 + this.#reading(first)) * (1 + this.#reading(second)), shape };
    if (name === 'orValue' || name === 'or' || name === 'value' || name === 'hasValue' || of === 'optional')
      return { cost, shape };
    return { cost: all.reduce((sum, part) => sum + this.#reading(part.shape), cost), shape };
  }

  #result(name: string, shapes: readonly Shape[]): Shape {
    const [first = SCALAR, second = SCALAR, third = SCALAR] = shapes;
    if (name === 'orValue' || name === 'or' || name === 'of') return shapes.reduce(larger, SCALAR);
    if (name === 'split' || name === 'findAll') return { kind: 'list', size: first.size, item: () => first };
    if (name === 'replace') return { ...first, size: first.size * Math.max(1, third.size) };
    if (name === 'join') return text(first.size * (itemOf(first).size + second.size));
    if (name === 'string') return first.kind === 'scalar' ? text(32) : text(first.size);
    if (!SAME.has(name)) return SCALAR;
    return first.kind === 'list' ? itemOf(first) : first;
  }

  /** As many elements, or characters, and that somebody looks at them all. */
  #seen({ size, bound }: Shape): number {
    if (bound !== undefined) this.bounds.add(bound);
    return size;
  }

  /** What it costs to go over all of it. */
  #reading(shape: Shape): number {
    if (shape.kind === 'scalar' || shape.kind === 'struct') return 0;
    return this.#seen(shape) * (shape.kind === 'list' || shape.kind === 'map' ? 1 : TEXT_WEIGHT);
  }

  /** No longer than the shorter of the two. */
  #comparing(left: Shape, right: Shape): number {
    const shorter = left.size <= right.size ? left : right;
    if (shorter.kind !== 'list' && shorter.kind !== 'map') return 1 + this.#reading(shorter);
    return 1 + this.#seen(shorter) * (1 + this.#reading(itemOf(shorter)));
  }
}

function withVariable(scope: Scope, variable: unknown, shape: Shape): Scope {
  return isNode(variable) ? new Map(scope).set(String(variable.args), shape) : scope;
}
