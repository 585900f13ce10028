/**
 * The names of fields as CEL can say them: what is no identifier there is escaped, as Kubernetes does it (`self.x__dash__y` for the field `x-y`). Used where objects are turned into values and where rules are checked against a schema.
 * https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/#validation-rules
 */
const RESERVED = new Set([
  ...[
    'true',
    'false',
    'null',
    'in',
    'as',
    'break',
    'const',
    'continue',
    'else',
    'for',
    'function',
    'if',
    'import',
    'let',
  ],
  ...['loop', 'package', 'namespace', 'return', 'var', 'void', 'while'],
]);
const ESCAPABLE = /^[A-Za-z_./-][A-Za-z0-9_./-]*$/;
const ESCAPES: Readonly<Record<string, string>> = {
  __: '__underscores__',
  '.': '__dot__',
  '-': '__dash__',
  '/': '__slash__',
};

const escaped = new Map<string, string | undefined>();
const MAX_REMEMBERED = 10_000;

/** Undefined for a name that rules cannot reach. */
export function celName(name: string): string | undefined {
  if (escaped.has(name)) return escaped.get(name);
  const result = escape(name);
  if (escaped.size < MAX_REMEMBERED) escaped.set(name, result);
  return result;
}

function escape(name: string): string | undefined {
  if (RESERVED.has(name)) return `__${name}__`;
  if (!ESCAPABLE.test(name)) return undefined;
  return name.replaceAll(/__|[./-]/g, (part) => ESCAPES[part] ?? part);
}
