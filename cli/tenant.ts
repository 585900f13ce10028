/** `reckon tenant`: database logins that see some namespaces and nothing else. Called by `main.ts`; resolves to the exit code. */
import { grantTenant, listTenants, revokeTenant, TENANT_CONNECTIONS } from '../state/tenants.ts';
import { databaseName, databaseUrl, homeFolder, loadInstance } from './instance.ts';
import { columns, terminal } from './verbs/terminal.ts';
import { readWords, UsageError } from './verbs/words.ts';

const help = `reckon tenant create <name> -n <namespace>[,<namespace>…] | list | delete <name>     [-o json]

Logins to the views of docs/sql.md that see the rows of these namespaces alone; '*' is all of them, and nodes.
\`create\` on a tenant that is there gives it a new password, and these namespaces instead of its own.

Examples
  reckon tenant create shop -n shop                 psql with what it prints
  reckon tenant create dashboards -n '*'
  reckon tenant delete shop                         its sessions end`;

export async function tenantCommand(given: readonly string[]): Promise<number> {
  const screen = terminal();
  try {
    const words = readWords(given, {});
    const [action = '', name, ...more] = words.names;
    if (words.has('help')) {
      screen.write(help);
      return 0;
    }
    const url = databaseUrl(await loadInstance(homeFolder()), 'superuser').replace(/\/postgres$/, `/${databaseName}`);
    const json = words.text('output') === 'json';
    if (action === 'list' && name === undefined) {
      const tenants = await listTenants(url);
      if (json) screen.write(JSON.stringify(tenants, undefined, 2));
      else
        for (const line of columns([
          ['ROLE', 'NAMESPACES'],
          ...tenants.map((each) => [each.role, each.namespaces.join(', ')]),
        ]))
          screen.write(line);
      return 0;
    }
    if (name === undefined || more.length > 0 || !['create', 'delete'].includes(action))
      throw new UsageError('There are `reckon tenant create <name>`, `list` and `delete <name>`.');
    if (action === 'delete') {
      await revokeTenant(url, name);
      screen.write(`Tenant ${name} is gone, and its sessions with it.`);
      return 0;
    }
    const namespaces = words.text('namespace')?.split(',').filter(Boolean) ?? [];
    if (namespaces.length === 0) throw new UsageError('-n says which namespaces the tenant sees.');
    const { role, password } = await grantTenant(url, name, namespaces);
    const login = new URL(url);
    login.username = role;
    login.password = password;
    if (json) screen.write(JSON.stringify({ role, namespaces, url: login.href }, undefined, 2));
    else {
      screen.write(login.href);
      screen.write(
        screen.paint(
          'dim',
          `sees ${namespaces.join(', ')}; at most ${TENANT_CONNECTIONS} sessions; the password is shown to nobody again`,
        ),
      );
    }
    return 0;
  } catch (error) {
    const usage = error instanceof UsageError;
    process.stderr.write(
      `reckon: ${error instanceof Error ? error.message : String(error)}${usage ? ' `reckon tenant --help` tells more.' : ''}\n`,
    );
    return usage ? 2 : 1;
  }
}
