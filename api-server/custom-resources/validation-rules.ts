/**
 * Whether the CEL rules of a custom kind's schema can be used: each must compile against the types of the schema that it stands on. Called by `definition-rules.ts`, for a structural schema.
 */
import type { Environment } from '@marcbachmann/cel-js';
import type { ValidationRule } from '../../api-schemas/schema.ts';
import { firstLine, userLibrary } from '../admission/cel-rules.ts';
import { compileMetered } from '../admission/cel/metered.ts';
import { typedEnvironment } from '../admission/cel/typed.ts';
import { invalid, required, type Fault } from '../admission/fault.ts';
import type { SchemaProps } from './schema-of-kind.ts';
import { isProps, MAX_FAULTS, propertiesOf } from './structural-schema.ts';

/** Of one node; Kubernetes bounds their estimated cost instead. */
const MAX_RULES = 100;
const MAX_MESSAGE_LENGTH = 2_048;

export function validationRuleFaults(root: SchemaProps, path: string): Fault[] {
  const faults: Fault[] = [];
  walk({ props: root, path, isRoot: true, isCorrelatable: true }, faults);
  return faults;
}

interface Node {
  readonly props: SchemaProps;
  readonly path: string;
  readonly isRoot: boolean;
  /** Whether an old value can be found for a value: not among the items of a list without keys. */
  readonly isCorrelatable: boolean;
}

function walk({ props, path, isRoot, isCorrelatable }: Node, faults: Fault[]): void {
  if (faults.length >= MAX_FAULTS) return;
  const rules = (props['x-kubernetes-validations'] ?? []) as readonly ValidationRule[];
  const at = `${path}.x-kubernetes-validations`;
  if (rules.length > MAX_RULES) faults.push(invalid(at, rules.length, `must have at most ${MAX_RULES} rules`));
  for (const [index, rule] of rules.slice(0, MAX_RULES).entries())
    faults.push(...ruleFaults(rule, { props, path: `${at}[${index}]`, isRoot, isCorrelatable }));
  const { items, additionalProperties } = props;
  const isList = props['x-kubernetes-list-type'];
  const below = isCorrelatable && props['x-kubernetes-map-type'] !== 'atomic';
  const isKept = isCorrelatable && (isList === 'map' || isList === 'set');
  if (isProps(items)) walk({ props: items, path: `${path}.items`, isRoot: false, isCorrelatable: isKept }, faults);
  if (isProps(additionalProperties))
    walk(
      { props: additionalProperties, path: `${path}.additionalProperties`, isRoot: false, isCorrelatable: below },
      faults,
    );
  for (const [name, child] of propertiesOf(props)) {
    if (isRoot && name === 'metadata') continue;
    walk({ props: child, path: `${path}.properties[${name}]`, isRoot: false, isCorrelatable: below }, faults);
  }
}

function ruleFaults(rule: ValidationRule, { props, path, isRoot, isCorrelatable }: Node): Fault[] {
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
      compileMetered(text, environment, resultIs);
    } catch (cause) {
      faults.push(invalid(`${path}.${field}`, text, `compilation failed: ${firstLine(cause)}`));
    }
  };
  check('rule', expression, 'bool');
  if (messageExpression !== undefined) check('messageExpression', messageExpression, 'string');
  return faults;
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
