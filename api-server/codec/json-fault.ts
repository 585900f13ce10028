/** Finds where a text stops being JSON. Called by `json.ts` after JSON.parse has refused it: V8 says what is wrong, but not always where. */

const BLANK = /[ \t\n\r]*/y;
const SCALAR =
  /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])|(?:true|false|null)(?!\w)/y;

type Expected = 'value' | 'value or ]' | 'key' | 'key or }' | ':' | ', or ]' | ', or }' | 'end';

/** The offset of the first character that cannot stand where it stands, and what could. */
export function findFault(text: string): { offset: number; expected: Expected } | undefined {
  const open: ('[' | '{')[] = [];
  let expected: Expected = 'value';
  let offset = 0;
  const closed = (): Expected => (open.length === 0 ? 'end' : open.at(-1) === '[' ? ', or ]' : ', or }');
  for (;;) {
    BLANK.lastIndex = offset;
    BLANK.test(text);
    offset = BLANK.lastIndex;
    const character = text[offset];
    if (character === undefined) return expected === 'end' ? undefined : { offset, expected };
    const takesValue: boolean = expected === 'value' || expected === 'value or ]';
    const takesKey: boolean = expected === 'key' || expected === 'key or }';
    if (takesValue && (character === '[' || character === '{')) {
      open.push(character);
      expected = character === '[' ? 'value or ]' : 'key or }';
    } else if (
      (character === ']' && (expected === 'value or ]' || expected === ', or ]')) ||
      (character === '}' && (expected === 'key or }' || expected === ', or }'))
    ) {
      open.pop();
      expected = closed();
    } else if (character === ',' && (expected === ', or ]' || expected === ', or }'))
      expected = open.at(-1) === '[' ? 'value' : 'key';
    else if (character === ':' && expected === ':') expected = 'value';
    else {
      SCALAR.lastIndex = offset;
      const fits = (takesValue || (takesKey && character === '"')) && SCALAR.test(text);
      if (!fits) return { offset, expected };
      offset = SCALAR.lastIndex;
      expected = takesKey ? ':' : closed();
      continue;
    }
    offset += 1;
  }
}
