/**
 * What Kubernetes adds to CEL: functions on lists, texts and expressions, sets, URLs, addresses and quantities. Registered with every environment that rules are compiled in.
 * https://kubernetes.io/docs/reference/using-api/cel/#cel-options-language-features-and-libraries
 */
import type { Environment } from '@marcbachmann/cel-js';
import { usable, isFound } from '../../custom-resources/pattern.ts';
import { registerAddresses } from './addresses.ts';
import { registerFormats } from './formats.ts';
import { LINEAR_MATCHES } from './metered.ts';
import { registerOptionals } from './optionals.ts';
import { registerQuantities } from './quantities.ts';

/** A value as CEL has it: an int is a bigint. */
type Value = unknown;

export function registerLibrary(environment: Environment): Environment {
  registerTexts(environment);
  registerLists(environment);
  registerSets(environment);
  registerAddresses(environment);
  registerQuantities(environment);
  registerFormats(environment);
  registerOptionals(environment);
  return environment;
}

function registerTexts(environment: Environment): void {
  const all = (text: string, pattern: string): string[] => {
    const found: string[] = [];
    const matcher = usable(pattern, text).matcher(text);
    while (matcher.find()) found.push(matcher.group() ?? '');
    return found;
  };
  environment
    .registerFunction(`string.${LINEAR_MATCHES}(string): bool`, (text: string, pattern: string) =>
      isFound(pattern, text),
    )
    .registerFunction(`${LINEAR_MATCHES}(string, string): bool`, (text: string, pattern: string) =>
      isFound(pattern, text),
    )
    .registerFunction('string.find(string): string', (text: string, pattern: string) => all(text, pattern)[0] ?? '')
    .registerFunction('string.findAll(string): list<string>', all)
    .registerFunction('string.findAll(string, int): list<string>', (text: string, pattern: string, limit: bigint) =>
      limit < 0n ? all(text, pattern) : all(text, pattern).slice(0, Number(limit)),
    )
    .registerFunction('string.charAt(int): string', (text: string, index: bigint) => {
      const characters = [...text];
      if (index < 0n || index > BigInt(characters.length)) throw new Error(`index out of range: ${index}`);
      return characters[Number(index)] ?? '';
    })
    .registerFunction('string.replace(string, string): string', (text: string, from: string, to: string) =>
      text.split(from).join(to),
    )
    .registerFunction('string.replace(string, string, int): string', replaceSome)
    .registerFunction('string.reverse(): string', (text: string) => [...text].toReversed().join(''));
}

function replaceSome(text: string, from: string, to: string, limit: bigint): string {
  if (limit < 0n) return text.split(from).join(to);
  const parts = text.split(from);
  const count = Math.min(Number(limit), parts.length - 1);
  return (
    parts.slice(0, count + 1).join(to) +
    parts
      .slice(count + 1)
      .map((part) => from + part)
      .join('')
  );
}

const less = (a: Value, b: Value): boolean => (a as bigint) < (b as bigint);

function registerLists(environment: Environment): void {
  const extreme = (list: readonly Value[], isBetter: (a: Value, b: Value) => boolean): Value => {
    if (list.length === 0) throw new Error('min and max need a list that is not empty');
    return list.reduce((best, item) => (isBetter(item, best) ? item : best));
  };
  const sum = (list: readonly Value[]): Value => {
    if (list.some((item) => typeof item === 'number'))
      return list.reduce((total: number, item) => total + Number(item), 0);
    return list.reduce((total: bigint, item) => total + (item as bigint), 0n);
  };
  environment
    .registerFunction('list.isSorted(): bool', (list: readonly Value[]) =>
      list.every((item, index) => index === 0 || !less(item, list[index - 1])),
    )
    .registerFunction('list.sum(): dyn', sum)
    .registerFunction('list.min(): dyn', (list: readonly Value[]) => extreme(list, less))
    .registerFunction('list.max(): dyn', (list: readonly Value[]) => extreme(list, (a, b) => less(b, a)))
    .registerFunction('list.indexOf(dyn): int', (list: readonly Value[], item: Value) => BigInt(indexOf(list, item)))
    .registerFunction('list.lastIndexOf(dyn): int', (list: readonly Value[], item: Value) => {
      const back = indexOf(list.toReversed(), item);
      return BigInt(back === -1 ? -1 : list.length - 1 - back);
    });
}

const text = (value: Value): string =>
  JSON.stringify(value, (_, each: unknown) => (typeof each === 'bigint' ? Number(each) : each)) ?? '';

const indexOf = (list: readonly Value[], item: Value): number => {
  const wanted = text(item);
  return list.findIndex((each) => text(each) === wanted);
};

class SetFunctions {}

/** `sets.contains`, `sets.equivalent`, `sets.intersects`. */
function registerSets(environment: Environment): void {
  const within = (list: readonly Value[], other: readonly Value[]): boolean => {
    const known = new Set(list.map(text));
    return other.every((item) => known.has(text(item)));
  };
  const apart = (list: readonly Value[], other: readonly Value[]): boolean => {
    const known = new Set(list.map(text));
    return !other.some((item) => known.has(text(item)));
  };
  type Lists = [namespace: unknown, left: readonly Value[], right: readonly Value[]];
  environment
    .registerType('SetFunctions', SetFunctions)
    .registerConstant('sets', 'SetFunctions', new SetFunctions())
    .registerFunction('SetFunctions.contains(list, list): bool', (...[, a, b]: Lists) => within(a, b))
    .registerFunction('SetFunctions.equivalent(list, list): bool', (...[, a, b]: Lists) => within(a, b) && within(b, a))
    .registerFunction('SetFunctions.intersects(list, list): bool', (...[, a, b]: Lists) => !apart(a, b));
}
