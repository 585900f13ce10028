/**
 * Everything that commonly goes wrong, on real containers: of each, `reckon why` names the first cause and what it came to, after all Events are gone. Part of `npm run prove`; alone:
 * `node dist/test/prove/prove-why.js [words of the faults]`.
 */
import { ensureHelloImage } from '../../cli/start/hello-image.ts';
import { DockerRuntime } from '../../runtime/docker/docker-runtime.ts';
import { FAULTS } from '../memory/scripted-faults.ts';
import { askWhy } from '../memory/ask-why.ts';
import { startReckon } from '../harness/start-reckon.ts';
import { IMAGE } from '../spine/stage.ts';
import { around } from './alone.ts';

const together = 5;
const wanted = process.argv.slice(2).join(' ');
const faults = FAULTS.filter(({ what }) => what.includes(wanted));
const t = await around();
let failed = 0;
try {
  const reckon = await startReckon(t);
  const runtime = new DockerRuntime({ socketPath: new URL(reckon.dockerHost).pathname });
  await ensureHelloImage(runtime, IMAGE);
  const tell = (what: string, complaints: readonly string[]): void => {
    process.stdout.write(`${complaints.length === 0 ? 'held' : 'FAILED'}  ${what}\n`);
    for (const complaint of complaints) process.stdout.write(`        ${complaint.replaceAll('\n', '\n        ')}\n`);
    if (complaints.length > 0) failed++;
  };
  const queue = faults.filter(({ alone }) => !alone);
  const worker = async (): Promise<void> => {
    for (let fault = queue.shift(); fault; fault = queue.shift()) tell(fault.what, await askWhy(reckon, fault));
  };
  await Promise.all(Array.from({ length: together }, worker));
  for (const fault of faults.filter(({ alone }) => alone)) tell(fault.what, await askWhy(reckon, fault));
} finally {
  await t.end();
}
process.stdout.write(`${faults.length - failed} of ${faults.length} explained\n`);
process.exit(failed === 0 ? 0 : 1);
