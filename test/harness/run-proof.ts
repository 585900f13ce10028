/**
 * `npm run prove`: the long, seeded runs of what `npm test` tries at a small size. A proof is a program `prove-*.ts` anywhere under test/; it shows its seed, takes what follows `--` as its own words (rounds,
 * seed), and exits with 0 when everything held. `npm run prove -- kills 500 42` runs those whose path holds `kills`, with the words `500 42`. What has held is noted for this build: a run that was stopped, or in which something failed, goes on
 * after it, and one that came to its end begins afresh.
 */
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { startTestServers } from './test-servers.ts';

const root = process.env['RECKON_ROOT'] ?? process.cwd();
const tests = path.join(root, 'dist', 'test');
const buildStamp = path.join(root, 'dist', '.build-stamp.json');
const progressFile = path.join(root, 'dist', '.proved.json');

interface Progress {
  readonly build: string;
  /** Proofs with their words. */
  readonly held: readonly string[];
}

function readProgress(): Progress {
  const { digest } = JSON.parse(readFileSync(buildStamp, 'utf8')) as { digest: string };
  const noted = existsSync(progressFile) ? (JSON.parse(readFileSync(progressFile, 'utf8')) as Progress) : undefined;
  return noted?.build === digest ? noted : { build: digest, held: [] };
}

async function run(): Promise<number> {
  const [wanted = '', ...words] = process.argv.slice(3);
  const proofs = readdirSync(tests, { recursive: true, encoding: 'utf8' })
    .filter((file) => /(^|\/)prove-[^/]*\.js$/.test(file) && file.includes(wanted))
    .sort();
  if (proofs.length === 0) process.stderr.write(`There is no proof whose path holds '${wanted}'.\n`);
  const servers = await startTestServers((line) => void process.stderr.write(`${line}\n`));
  let passed = 0;
  let progress = readProgress();
  try {
    for (const proof of proofs) {
      const title = [proof.replace(/\.js$/, ''), ...words].join(' ');
      process.stdout.write(`\n# ${title}\n`);
      if (progress.held.includes(title)) {
        passed++;
        process.stdout.write(`ok  ${proof}, in a run before this one\n`);
        continue;
      }
      const began = performance.now();
      const child = spawn(process.execPath, ['--enable-source-maps', path.join(tests, proof), ...words], {
        cwd: root,
        stdio: ['ignore', 'inherit', 'inherit'],
        env: { ...process.env, RECKON_TEST_SERVERS: JSON.stringify(servers.addresses) },
      });
      const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
      const seconds = Math.round((performance.now() - began) / 1000);
      process.stdout.write(`${code === 0 ? 'ok' : 'not ok'}  ${proof} (${seconds} s)\n`);
      if (code !== 0) continue;
      passed++;
      progress = { ...progress, held: [...progress.held, title] };
      writeFileSync(progressFile, JSON.stringify(progress));
    }
    if (passed === proofs.length) rmSync(progressFile, { force: true });
  } finally {
    await servers.stop();
  }
  process.stdout.write(`\n${passed} passed, ${proofs.length - passed} failed\n`);
  return passed === proofs.length && passed > 0 ? 0 : 1;
}

process.exit(await run());
