/**
 * `npm run prove`: the long, seeded runs of what `npm test` tries at a small size. A proof is a program `prove-*.ts` anywhere under test/; it shows its seed, takes what follows `--` as its own words (rounds,
 * seed), and exits with 0 when everything held. `npm run prove -- kills 500 42` runs those whose path holds `kills`, with the words `500 42`.
 */
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { startTestServers } from './test-servers.ts';

const root = process.env['RECKON_ROOT'] ?? process.cwd();
const tests = path.join(root, 'dist', 'test');

async function run(): Promise<number> {
  const [wanted = '', ...words] = process.argv.slice(3);
  const proofs = readdirSync(tests, { recursive: true, encoding: 'utf8' })
    .filter((file) => /(^|\/)prove-[^/]*\.js$/.test(file) && file.includes(wanted))
    .sort();
  if (proofs.length === 0) process.stderr.write(`There is no proof whose path holds '${wanted}'.\n`);
  const servers = await startTestServers((line) => void process.stderr.write(`${line}\n`));
  let passed = 0;
  try {
    for (const proof of proofs) {
      process.stdout.write(`\n# ${proof.replace(/\.js$/, '')} ${words.join(' ')}\n`);
      const child = spawn(process.execPath, ['--enable-source-maps', path.join(tests, proof), ...words], {
        cwd: root,
        stdio: ['ignore', 'inherit', 'inherit'],
        env: { ...process.env, RECKON_TEST_SERVERS: JSON.stringify(servers.addresses) },
      });
      const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
      if (code === 0) passed++;
      process.stdout.write(`${code === 0 ? 'ok' : 'not ok'}  ${proof}\n`);
    }
  } finally {
    await servers.stop();
  }
  process.stdout.write(`\n${passed} passed, ${proofs.length - passed} failed\n`);
  return passed === proofs.length && passed > 0 ? 0 : 1;
}

process.exit(await run());
