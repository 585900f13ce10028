/**
 * `npm run bench`: every benchmark of this folder, one after the other, each in a process of its own. Words after `npm run bench --` choose those whose path holds one of them. Each prints its figures as a
 * ratio to a peer or a limit measured in the same run; nothing here passes or fails.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';

const wanted = process.argv.slice(3);
const folder = import.meta.dirname;
const files = readdirSync(folder, { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.js') && file !== 'main.js')
  .filter((file) => wanted.length === 0 || wanted.some((word) => file.includes(word)))
  .sort();

let failed = 0;
for (const file of files) {
  process.stdout.write(`\n${file.replace(/\.js$/, '')}\n`);
  const child = spawn(process.execPath, ['--enable-source-maps', path.join(folder, file)], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  if (code !== 0) failed++;
}
if (files.length === 0) process.stdout.write('No benchmark matches.\n');
process.exitCode = failed === 0 ? 0 : 1;
