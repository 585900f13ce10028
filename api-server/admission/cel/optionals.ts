/**
 * `optMap` and `optFlatMap`: what an optional value comes to, where there is one. The library knows optionals and how macros bind names; this is its own way of making a macro (`cel.bind`), for these two. Registered by `library.ts`.
 * https://pkg.go.dev/github.com/google/cel-go/cel#OptionalTypes
 */
import { Optional, type Environment } from '@marcbachmann/cel-js';

interface Type {
  readonly kind: string;
  readonly valueType?: Type;
}

interface Node {
  readonly op: string;
  readonly args: unknown;
  setMeta(name: string, value: unknown): Node;
}

/** The names that an expression sees. */
interface Scope {
  forkWithVariable(name: string, type: Type): Scope;
  reuse(outer: Scope): Scope;
  setIterValue(value: unknown, evaluator: Evaluator): Scope;
}

interface Checker {
  check(node: Node, scope: Scope): Type;
  getType(name: string): Type;
  createError(code: string, message: string, node: Node): Error;
}

interface Evaluator {
  run(node: Node, scope: Scope): unknown;
}

interface Macro {
  readonly ast: Node;
  readonly receiver: Node;
  readonly variable: Node;
  readonly expression: Node;
  inner?: Scope;
}

/** What the library calls for a macro; its own types do not tell. */
interface Call {
  readonly ast: Node;
  readonly receiver: Node;
  readonly args: readonly [Node, Node];
}

function expander(name: string, wrap: (value: unknown) => unknown) {
  return ({ ast, receiver, args: [variable, expression] }: Call) => ({
    ast,
    receiver,
    variable,
    expression,
    typeCheck(checker: Checker, macro: Macro, scope: Scope): Type {
      if (macro.variable.op !== 'id')
        throw checker.createError(
          'invalid_macro_argument',
          `${name} wants a name as its first argument`,
          macro.variable,
        );
      const of = checker.check(macro.receiver, scope);
      if (of.kind !== 'optional' && of.kind !== 'dyn')
        throw checker.createError(
          'optional_expected',
          `${name} wants an optional value, not '${String(of)}'`,
          macro.receiver,
        );
      macro.inner = scope.forkWithVariable(String(macro.variable.args), of.valueType ?? checker.getType('dyn'));
      const type = checker.check(macro.expression, macro.inner);
      macro.ast.setMeta('async', false);
      if (name === 'optFlatMap' && type.kind !== 'optional' && type.kind !== 'dyn')
        throw checker.createError(
          'optional_expected',
          `${name} must come to an optional value, not '${String(type)}'`,
          macro.expression,
        );
      return checker.getType('optional');
    },
    evaluate(evaluator: Evaluator, { receiver: from, expression: next, inner }: Macro, scope: Scope): unknown {
      const found = evaluator.run(from, scope);
      if (!(found instanceof Optional)) throw new Error(`${name} wants an optional value`);
      if (!found.hasValue() || !inner) return Optional.none();
      return wrap(evaluator.run(next, inner.reuse(scope).setIterValue(found.value(), evaluator)));
    },
  });
}

export function registerOptionals(environment: Environment): void {
  const register = (signature: string, macro: unknown) =>
    environment.registerFunction(signature, macro as () => unknown);
  register(
    'optional.optMap(ast, ast): optional<dyn>',
    expander('optMap', (value) => Optional.of(value)),
  );
  register(
    'optional.optFlatMap(ast, ast): optional<dyn>',
    expander('optFlatMap', (value) => {
      if (value instanceof Optional) return value;
      throw new Error('optFlatMap must come to an optional value');
    }),
  );
}
