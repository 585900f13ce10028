/**
 * Whether the CEL rules of a custom kind's schema can be used: each must compile against the types of the schema that it stands on, and cost no more than so much however large an object is. Called by `definition-rules.ts`,
 * for a structural schema.
 */
import type { Environment } from '@marcbachmann/cel-js';
import type { ValidationRule } from '../../api-schemas/schema.ts';
import { firstLine, userLibrary } from '../admission/cel-rules.ts';
import { compileMetered } from '../admission/cel/metered.ts';
import { typedEnvironment } from '../admission/cel/typed.ts';
import { estimate } from '../admission/cel/estimate.ts';
import { rootShape, shapeOf, type Shape } from '../admission/cel/shape.ts';
import { celName } from '../admission/cel/names.ts';
import { forbidden, invalid, required, type Fault } from '../admission/fault.ts';
import type { SchemaProps } from './schema-of-kind.ts';
import { isProps, MAX_FAULTS, propertiesOf } from './structural-schema.ts';

/** Of one node. */
const MAX_RULES = 100;
const MAX_MESSAGE_LENGTH = 2_048;
/** As in Kubernetes: of one rule, as often as it is asked of an object, and of all rules of a schema. */
const MAX_RULE_COST = 10_000_000;
const MAX_SCHEMA_COST = 100_000_000;
const MAX_SHOWN_BOUNDS = 8;

export function validationRuleFaults(root: SchemaProps, path: string): Fault[] {
  const faults: Fault[] = [];
  const spent: Spent = { cost: 0, most: [] };
  const shape = rootShape(root);
  walk({ props: root, path, isRoot: true, isCorrelatable: true, shape, times: 1, bounds: [] }, { faults, spent });
  if (faults.length === 0 && spent.cost > MAX_SCHEMA_COST) faults.push(...schemaCostFaults(spent, path));
  return faults;
}

interface Spent {
  cost: number;
  /** The rules that cost more than a hundredth of what all may. */
  readonly most: { readonly path: string; readonly cost: number }[];
}

interface Judging {
  readonly faults: Fault[];
  readonly spent: Spent;
}

const factor = (cost: number, limit: number): string =>
  cost > 100 * limit ? 'more than 100x' : `${(cost / limit).toFixed(1)}x`;

/** What has been left without a bound, and so makes the cost what it is. */
function advice(bounds: Iterable<string>): string {
  const named = [...new Set(bounds)];
  if (named.length === 0) return 'simplify the rule, or lower the bounds of what it looks at';
  const shown = named.slice(0, MAX_SHOWN_BOUNDS).join(', ');
  return `simplify the rule, or set ${shown}${named.length > MAX_SHOWN_BOUNDS ? ', …' : ''}`;
}

const schemaCostFaults = ({ cost, most }: Spent, path: string): Fault[] => [
  forbidden(
    path,
    `estimated cost of all x-kubernetes-validations exceeds the budget of the schema by a factor of ${factor(cost, MAX_SCHEMA_COST)} (simplify the rules, or add maxItems, maxProperties and maxLength where lists, maps and texts are declared)`,
  ),
  ...most
    .sort((a, b) => b.cost - a.cost)
    .slice(0, MAX_SHOWN_BOUNDS)
    .map((rule) => forbidden(rule.path, 'contributes to estimated costs that exceed the budget of the schema')),
];

interface Node {
  readonly props: SchemaProps;
  readonly path: string;
  readonly isRoot: boolean;
  /** Whether an old value can be found for a value: not among the items of a list without keys. */
  readonly isCorrelatable: boolean;
  readonly shape: Shape;
  /** How often the node occurs in an object at most. */
  readonly times: number;
  /** What would bound that. */
  readonly bounds: readonly string[];
}

function walk(node: Node, judging: Judging): void {
  const { props, path, isRoot, isCorrelatable, shape } = node;
  const { faults } = judging;
  if (faults.length >= MAX_FAULTS) return;
  const rules = (props['x-kubernetes-validations'] ?? []) as readonly ValidationRule[];
  const at = `${path}.x-kubernetes-validations`;
  if (rules.length > MAX_RULES) faults.push(invalid(at, rules.length, `must have at most ${MAX_RULES} rules`));
  for (const [index, rule] of rules.slice(0, MAX_RULES).entries())
    faults.push(...ruleFaults(rule, { ...node, path: `${at}[${index}]` }, judging.spent));
  const { items, additionalProperties } = props;
  const isList = props['x-kubernetes-list-type'];
  const below = isCorrelatable && props['x-kubernetes-map-type'] !== 'atomic';
  const isKept = isCorrelatable && (isList === 'map' || isList === 'set');
  const child = (props: SchemaProps, step: string, part: Shape | undefined) => ({
    props,
    path: `${path}.${step}`,
    isRoot: false,
    isCorrelatable: below,
    shape: part ?? shapeOf(props, step),
    times: node.times * shape.size,
    bounds: shape.bound === undefined ? node.bounds : [...node.bounds, shape.bound],
  });
  if (isProps(items)) walk({ ...child(items, 'items', shape.item?.()), isCorrelatable: isKept }, judging);
  if (isProps(additionalProperties)) walk(child(additionalProperties, 'additionalProperties', shape.item?.()), judging);
  for (const [name, property] of propertiesOf(props)) {
    if (isRoot && name === 'metadata') continue;
    walk(child(property, `properties[${name}]`, partOf(shape, name)), judging);
  }
}

/** Also of what stands in a field that no rule can name. */
const partOf = ({ field }: Shape, name: string): Shape | undefined => {
  const reachable = celName(name);
  return reachable === undefined ? undefined : field?.(reachable);
};

function ruleFaults(rule: ValidationRule, node: Node, spent: Spent): Fault[] {
  const { props, path, isRoot, isCorrelatable } = node;
  const { rule: expression, message, messageExpression, fieldPath, optionalOldSelf = false } = rule;
  if (expression.trim() === '') return [required(`${path}.rule`, 'rule is not specified')];
  const faults: Fault[] = [];
  const namesOld = /\boldSelf\b/.test(expression);
  if (namesOld && !isCorrelatable)
    faults.push(
      invalid(
        `${path}.rule`,
        expression,
        'oldSelf cannot be used on the uncorrelatable portion of the schema within a list without keys',
      ),
    );
  if (optionalOldSelf && !namesOld)
    faults.push(invalid(`${path}.optionalOldSelf`, true, 'may not be set if oldSelf is not used in rule'));
  if (message !== undefined && (message.trim() === '' || message.includes('\n') || message.length > MAX_MESSAGE_LENGTH))
    faults.push(
      invalid(
        `${path}.message`,
        message,
        `must be one line of at most ${MAX_MESSAGE_LENGTH} characters, and not blank`,
      ),
    );
  if (message === undefined && messageExpression === undefined && expression.trim().includes('\n'))
    faults.push(required(`${path}.message`, 'message must be specified if rule contains line breaks'));
  if (fieldPath !== undefined && !leadsTo(fieldPath, props, isRoot))
    faults.push(
      invalid(
        `${path}.fieldPath`,
        fieldPath,
        'fieldPath must be a valid path of fields of the schema, such as .spec.color',
      ),
    );
  const environment = environmentOf(props, optionalOldSelf, isRoot);
  const check = (field: string, text: string, resultIs: 'bool' | 'string'): void => {
    try {
      const { ast } = compileMetered(text, environment, resultIs);
      faults.push(...costFaults(ast, { ...node, path: `${path}.${field}` }, spent));
    } catch (cause) {
      faults.push(invalid(`${path}.${field}`, text, `compilation failed: ${firstLine(cause)}`));
    }
  };
  check('rule', expression, 'bool');
  if (messageExpression !== undefined) check('messageExpression', messageExpression, 'string');
  return faults;
}

function costFaults(ast: unknown, { path, shape, times, bounds: above }: Node, spent: Spent): Fault[] {
  const { cost, bounds } = estimate(ast, shape);
  const whole = cost * times;
  spent.cost += whole;
  if (whole > MAX_SCHEMA_COST / 100) spent.most.push({ path, cost: whole });
  if (whole <= MAX_RULE_COST) return [];
  const by = factor(whole, MAX_RULE_COST);
  const why = advice([...above, ...bounds]);
  return [forbidden(path, `estimated rule cost exceeds budget by a factor of ${by} (${why})`)];
}

const environments = new WeakMap<SchemaProps, Map<boolean, Environment>>();

/** One for all rules of a node. */
function environmentOf(props: SchemaProps, optionalOldSelf: boolean, isRoot: boolean): Environment {
  let known = environments.get(props);
  if (!known) environments.set(props, (known = new Map()));
  let environment = known.get(optionalOldSelf);
  if (!environment)
    known.set(optionalOldSelf, (environment = typedEnvironment(userLibrary, props, optionalOldSelf, isRoot)));
  return environment;
}

const STEP = /\.([A-Za-z_][A-Za-z0-9_-]*)|\['([^']+)'\]/y;

/** Whether a path of fields below a node (`.spec.color`, `.data['a.b']`) leads to something. */
function leadsTo(path: string, from: SchemaProps, isRoot: boolean): boolean {
  let node: SchemaProps | undefined = from;
  STEP.lastIndex = 0;
  let end = 0;
  for (let match = STEP.exec(path); match; match = STEP.exec(path)) {
    const name = match[1] ?? match[2] ?? '';
    if (isRoot && end === 0 && name === 'metadata') return true;
    end = STEP.lastIndex;
    const own: SchemaProps | undefined = new Map(propertiesOf(node ?? {})).get(name);
    const { additionalProperties }: SchemaProps = node ?? {};
    node = own ?? (isProps(additionalProperties) ? additionalProperties : undefined);
    if (!node) return false;
  }
  return path !== '' && end === path.length;
}
