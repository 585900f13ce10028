/** `reckon token-key`: the keys that sign the tokens of service accounts, one after the other. API servers read the file anew by themselves. Called by `main.ts`; resolves to the exit code. */
import { newTokenKey, pemBlocks, readTokenKeys } from '../api-server/authentication/token-keys.ts';
import { homeFolder, loadInstance, tokenKeys, tokenKeysFile, writeTokenKeys } from './instance.ts';
import { columns, terminal } from './verbs/terminal.ts';
import { readWords, UsageError } from './verbs/words.ts';

const help = `reckon token-key list | rotate | retire

The keys for tokens of service accounts (pki/sa.key). The newest signs; all of them are believed.
\`rotate\` adds a new one, which signs from then on. \`retire\` takes away all but the newest: what they signed is refused from then on.
API servers take it up within seconds, without a restart. Tokens of pods are renewed within an hour; those in Secrets never are by themselves.

Examples
  reckon token-key rotate
  reckon token-key retire           a day later: nobody bears a token of the old key any more`;

export async function tokenKeyCommand(given: readonly string[]): Promise<number> {
  const screen = terminal();
  try {
    const words = readWords(given, {});
    if (words.has('help')) {
      screen.write(help);
      return 0;
    }
    const [action, ...more] = words.names;
    if (more.length > 0 || (action !== 'list' && action !== 'rotate' && action !== 'retire'))
      throw new UsageError('There are `reckon token-key list`, `rotate` and `retire`.');
    const { home } = await loadInstance(homeFolder());
    const held = await tokenKeys(home);
    // Read before anything is written: what cannot be read is not made worse.
    readTokenKeys(held);
    if (action === 'rotate') await writeTokenKeys(home, newTokenKey() + held);
    if (action === 'retire') await writeTokenKeys(home, pemBlocks(held)[0] ?? held);
    const [signing, ...others] = [...readTokenKeys(await tokenKeys(home)).verifying.keys()];
    const rows = [[signing ?? '', 'signs'], ...others.map((id) => [id, 'believed'])];
    for (const line of columns([['KEY', 'STATE'], ...rows])) screen.write(line);
    screen.write(screen.paint('dim', tokenKeysFile(home)));
    return 0;
  } catch (error) {
    const usage = error instanceof UsageError;
    process.stderr.write(
      `reckon: ${error instanceof Error ? error.message : String(error)}${usage ? ' `reckon token-key --help` tells more.' : ''}\n`,
    );
    return usage ? 2 : 1;
  }
}
