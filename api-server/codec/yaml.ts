/**
 * Parses YAML bodies as kubectl's own reader does (YAML 1.1: `yes` is true, `0644` is octal; a date stays text, nothing is sexagesimal) and prints objects as YAML. What grows out of
 * aliases, or nests too deep, is refused. Called by `body.ts`, server-side apply and `respond.ts`.
 */
import {
  Composer,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  Parser,
  stringify,
  type CST,
  type Document,
  type Tags,
} from 'yaml';
import { badRequest, StatusError } from '../errors.ts';
import { MAX_DEPTH } from './depth.ts';
import { parseJson, type Parsed } from './json.ts';

/** How often aliases may be followed: enough for any manifest, too few for a bomb. */
const MAX_ALIASES = 100;
const MAX_DUPLICATES = 100;
/** What the parser has open at the greatest depth: of a map, itself and the value that it is at. */
const MAX_OPEN = 2 * MAX_DEPTH + 8;
const OPENING_BRACE = /^\s*\{/;

/** Tags of YAML 1.1 that Go's reader does not know. */
const UNKNOWN_TO_GO = new Set([
  'tag:yaml.org,2002:timestamp',
  'tag:yaml.org,2002:omap',
  'tag:yaml.org,2002:pairs',
  'tag:yaml.org,2002:set',
]);

const asInGo = (tags: Tags): Tags =>
  tags.filter(
    (tag) => typeof tag !== 'object' || !(UNKNOWN_TO_GO.has(tag.tag) || ('format' in tag && tag.format === 'TIME')),
  );

/** Throws BadRequest for what is not one YAML document. JSON, which is YAML too, is read as JSON. */
export function parseYaml(body: Uint8Array, options: { duplicates: boolean }): Parsed {
  const text = Buffer.from(body.buffer, body.byteOffset, body.byteLength).toString('utf8');
  if (OPENING_BRACE.test(text)) {
    try {
      return parseJson(body, options);
    } catch (error) {
      // Flow style looks like JSON at first; anything but a syntax error is final.
      if (!(error instanceof StatusError) || !(error.cause instanceof SyntaxError)) throw error;
    }
  }
  const document = parse(text);
  try {
    const value: unknown = document.toJS({ maxAliasCount: MAX_ALIASES });
    refuseDepth(value);
    return { value, duplicates: options.duplicates ? duplicatesOf(document) : [] };
  } catch (cause) {
    if (cause instanceof StatusError) throw cause;
    throw refused(cause instanceof Error ? cause.message : String(cause), cause);
  }
}

const refused = (says: string, cause?: unknown) =>
  badRequest(`error converting YAML to JSON: yaml: ${says}`, { cause });

function parse(text: string): Document.Parsed {
  const lines = new LineCounter();
  const composer = new Composer({ version: '1.1', customTags: asInGo, uniqueKeys: false, logLevel: 'error' });
  const [document, another] = composer.compose(tokensOf(text, lines), true, text.length);
  const at = (offset: number): string => `line ${lines.linePos(offset).line}`;
  const [fault] = document?.errors ?? [];
  if (fault) throw refused(`${at(fault.pos[0])}: ${fault.message}`);
  if (another) throw refused(`${at(another.range[0])}: the body must hold one document`);
  if (!document) throw refused('there is no document');
  return document;
}

/**
 * The tokens of a text, given out only as long as it does not nest too deep. What is made of them is made by recursion, and must never come near the end of the stack: V8 does not throw there where it is about to compile a
 * regular expression, it ends the process.
 */
function* tokensOf(text: string, lines: LineCounter): Generator<CST.Token> {
  const parser = new Parser(lines.addNewLine);
  lines.addNewLine(0);
  for (const lexeme of new Lexer().lex(text)) {
    yield* parser.next(lexeme);
    if (parser.stack.length > MAX_OPEN) throw badRequest(`the body nests deeper than ${MAX_DEPTH} levels`);
  }
  yield* parser.end();
}

function refuseDepth(value: unknown): void {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MAX_DEPTH) throw badRequest(`the body nests deeper than ${MAX_DEPTH} levels`);
    level = level.flatMap((each) =>
      typeof each === 'object' && each !== null ? Object.values(each).filter((child) => typeof child === 'object') : [],
    );
  }
}

function duplicatesOf(document: Document.Parsed): string[] {
  const found: string[] = [];
  const look = (node: unknown, path: string): void => {
    if (isSeq(node)) node.items.forEach((item, index) => look(item, `${path}[${index}]`));
    if (!isMap(node)) return;
    const seen = new Set<string>();
    for (const { key, value } of node.items) {
      const name = String(isScalar(key) ? key.value : key);
      const at = path === '' ? name : `${path}.${name}`;
      if (seen.has(name) && name !== '<<' && found.length < MAX_DUPLICATES) found.push(at);
      seen.add(name);
      look(value, at);
    }
  };
  look(document.contents, '');
  return found;
}

/** An object as kubectl would write it. */
export function toYaml(value: unknown): string {
  return stringify(value, { version: '1.1', lineWidth: 0, aliasDuplicateObjects: false, sortMapEntries: true });
}
