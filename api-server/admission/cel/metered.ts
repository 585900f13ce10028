/**
 * CEL expressions that count their steps, so that a rule which a user wrote can cost only so much: every node that is evaluated is a step, and long texts and deep comparisons are several. Also turns `matches` to
 * expressions of linear time. Used by `cel-rules.ts`.
 */
import type { Environment, ParseResult } from '@marcbachmann/cel-js';

/** Over all rules of one object: about a tenth of a second. */
export const MAX_STEPS = 2_000_000;
/** An expression longer than this is refused. */
const MAX_EXPRESSION_LENGTH = 32_768;
/** The library bounds brackets and members, but each operator in a row is one recursion more, too: some 1,700 are the end of the stack, where V8 may end the process. */
const MAX_OPERATORS = 500;
/** One that is not closed goes to the end, so that no character is looked at twice. */
const TEXTS = /"(?:[^"\\]|\\.)*"?|'(?:[^'\\]|\\.)*'?/gs;
const OPERATORS = /[-+*/%!?]|[<>=&|]+|\bin\b/g;

/** The steps that are left for the rules of one object. */
export interface Budget {
  left: number;
}

export class BudgetError extends Error {
  override readonly name = 'BudgetError';
}

export interface Metered {
  /** The expression as the library has parsed it. */
  readonly ast: unknown;
  /** Throws BudgetError, or what the expression itself came to. */
  run(variables: Readonly<Record<string, unknown>>, budget: Budget): unknown;
}

type Evaluate = (this: unknown, ...args: unknown[]) => unknown;

/** A node of an expression as the library makes it. */
interface AstNode {
  readonly op: string;
  readonly args: unknown;
  readonly meta: { readonly alternate?: unknown; readonly macro?: unknown };
  evaluate: Evaluate;
}

const isNode = (value: unknown): value is AstNode =>
  typeof value === 'object' && value !== null && 'op' in value && 'meta' in value && 'evaluate' in value;

/** Throws, in one line, where the expression does not parse or its types do not fit; `resultIs` is what it must come to. */
export function compileMetered(expression: string, environment: Environment, resultIs: 'bool' | 'string'): Metered {
  if (expression.length > MAX_EXPRESSION_LENGTH)
    throw new Error(`must be no longer than ${MAX_EXPRESSION_LENGTH} characters`);
  if ((expression.replace(TEXTS, '').match(OPERATORS)?.length ?? 0) > MAX_OPERATORS)
    throw new Error(`must have no more than ${MAX_OPERATORS} operators`);
  const parsed: ParseResult = environment.parse(expression);
  const nodes = nodesOf(parsed.ast);
  for (const node of nodes) if (node.op === 'rcall' || node.op === 'call') replaceFunction(node);
  const { valid, type, error } = parsed.check();
  if (!valid) throw error ?? new Error('cannot be compiled');
  if (type !== resultIs && type !== 'dyn')
    throw new Error(`must evaluate to a ${resultIs}, and not to a ${String(type)}`);
  // The budget of the evaluation that is going on: none is begun before another has ended.
  let current: Budget = { left: 0 };
  const spend = (steps: number): void => {
    current.left -= steps;
    if (current.left < 0) throw new BudgetError('out of steps');
  };
  const compared = new Set(
    nodes.filter(({ op }) => COMPARING.has(op)).flatMap(({ args }) => (Array.isArray(args) ? args : [])),
  );
  for (const node of nodes) meter(node, spend, compared.has(node));
  return {
    ast: parsed.ast,
    run(variables, budget) {
      const outer = current;
      current = budget;
      try {
        return parsed(variables as Record<string, unknown>);
      } finally {
        current = outer;
      }
    },
  };
}

const COMPARING = new Set(['==', '!=', 'in']);

/** The library's own `matches` runs on V8's engine, whose time may be exponential. */
function replaceFunction(node: AstNode): void {
  if (Array.isArray(node.args) && node.args[0] === 'matches') node.args[0] = LINEAR_MATCHES;
}

export const LINEAR_MATCHES = 'matchesInLinearTime';

/** Every node, those that macros have made included. */
function nodesOf(root: unknown): AstNode[] {
  const seen = new Set<unknown>();
  const nodes: AstNode[] = [];
  const visit = (value: unknown): void => {
    if (typeof value !== 'object' || value === null || seen.has(value)) return;
    seen.add(value);
    if (isNode(value)) {
      nodes.push(value);
      for (const part of [value.args, value.meta.alternate, value.meta.macro]) visit(part);
    } else if (Array.isArray(value)) value.forEach(visit);
    else if (Object.getPrototypeOf(value) === Object.prototype) Object.values(value).forEach(visit);
  };
  visit(root);
  return nodes;
}

function meter(node: AstNode, spend: (steps: number) => void, isCompared: boolean): void {
  let inner = node.evaluate;
  const evaluate: Evaluate = function (...args) {
    spend(1);
    const result = inner.apply(node, args);
    if (typeof result === 'string') spend(result.length >> 4);
    else if (isCompared && typeof result === 'object' && result !== null) spend(sizeOf(result, spend));
    else if (Array.isArray(result)) spend(result.length >> 2);
    return result;
  };
  // The library puts the real function in its place when a node is first evaluated.
  Object.defineProperty(node, 'evaluate', {
    get: () => evaluate,
    set(value: Evaluate) {
      inner = value;
    },
  });
}

/** How much there is to compare; what has been counted already is spent on the way. */
function sizeOf(value: object, spend: (steps: number) => void): number {
  let size = 1;
  for (const child of Object.values(value) as unknown[]) {
    if (typeof child === 'string') size += 1 + (child.length >> 4);
    else if (typeof child === 'object' && child !== null) size += sizeOf(child, spend);
    else size += 1;
    if (size > 10_000) {
      spend(size);
      size = 0;
    }
  }
  return size;
}
