/** The documents: every link of theirs leads somewhere, and every behaviour that docs/kubernetes-compatibility.md claims names the tests that show it. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';

const root = process.env['RECKON_ROOT'] ?? process.cwd();
const documents = [
  'README.md',
  ...readdirSync(path.join(root, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.md'))
    .map((file) => path.join('docs', file)),
];
const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');

/** As forges make them of headings. */
function anchors(markdown: string): ReadonlySet<string> {
  return new Set(
    [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replace(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}

t.test('links lead somewhere', async (t) => {
  for (const document of documents) {
    const text = read(document).replace(/^```.*?^```/gms, '');
    for (const [, target = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [file = '', anchor] = target.split('#');
      const place = file === '' ? document : path.join(path.dirname(document), file);
      if (!existsSync(path.join(root, place))) t.fail(`${document}: ${target} is not there`);
      else if (anchor !== undefined && !anchors(read(place)).has(anchor))
        t.fail(`${document}: ${target}: no such heading`);
    }
  }
  t.ok(documents.length > 5, 'there are documents');
});

t.test('what works is shown by a test', async (t) => {
  const rows = read('docs/kubernetes-compatibility.md')
    .split('\n')
    .filter((line) => line.startsWith('|'))
    .map((line) =>
      line
        .split(/(?<!\\)\|/)
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
    .filter(([behaviour = '']) => behaviour !== 'behaviour' && !/^-+$/.test(behaviour));
  t.ok(rows.length > 50, `${rows.length} behaviours`);
  for (const [behaviour = '', state = '', test = ''] of rows) {
    if (!/^(works|differs|not yet|added|stored and served|answered|gets)\b/.test(state))
      t.fail(`${behaviour}: "${state}" is no state`);
    if (!state.includes('not yet') && !/\]\(\.\.\/test\/.*\.test\.ts\)/.test(test))
      t.fail(`${behaviour}: no test is named`);
  }
});
