/**
 * Credentials that a program gives, as kubeconfigs name one (`exec`): run when they are first needed, kept until they expire or the server refuses them. Used by `http-transport.ts`.
 * https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
 */
import { spawn } from 'node:child_process';

export type InteractiveMode = 'Never' | 'IfAvailable' | 'Always';

/** What a kubeconfig says of the program. */
export interface ExecPlugin {
  readonly apiVersion: string;
  readonly command: string;
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly interactiveMode: InteractiveMode;
  /** Told to whoever lacks the program. */
  readonly installHint: string | undefined;
  /** Where it wants to be told: `spec.cluster` of what it is given. */
  readonly cluster: Readonly<Record<string, unknown>> | undefined;
}

export interface Credential {
  readonly token: string | undefined;
  /** PEM. */
  readonly cert: string | undefined;
  readonly key: string | undefined;
  readonly expiresAtMs: number | undefined;
}

export const EXEC_API_VERSIONS: readonly string[] = [
  'client.authentication.k8s.io/v1',
  'client.authentication.k8s.io/v1beta1',
];

/** A person may have to log in meanwhile. */
const PATIENCE_MS = 10 * 60_000;
const MAX_OUTPUT_BYTES = 1 << 20;

/** The program gives no credentials. The message is for a person. */
export class ExecCredentialError extends Error {
  override readonly name = 'ExecCredentialError';
}

export class ExecCredentials {
  readonly #plugin: ExecPlugin;
  readonly #interactive: boolean;
  #held: Credential | undefined;
  #asking: Promise<Credential> | undefined;

  /** `interactive`: a person is there, whose terminal the program may have. */
  constructor(plugin: ExecPlugin, interactive: boolean) {
    this.#plugin = plugin;
    this.#interactive = interactive;
  }

  /** Rejects with ExecCredentialError. */
  async get(): Promise<Credential> {
    const { expiresAtMs = Infinity } = this.#held ?? {};
    if (this.#held && expiresAtMs > Date.now()) return this.#held;
    this.#asking ??= this.#ask().finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  /** The server has refused them: the next ones are asked for anew, unless somebody has done that already. */
  refused(credential: Credential): void {
    if (this.#held === credential) this.#held = undefined;
  }

  async #ask(): Promise<Credential> {
    const { interactiveMode, command } = this.#plugin;
    if (interactiveMode === 'Always' && !this.#interactive)
      throw new ExecCredentialError(
        `exec plugin ${command} wants a terminal (interactiveMode: Always), and there is none`,
      );
    this.#held = readCredential(
      await run(this.#plugin, this.#interactive && interactiveMode !== 'Never'),
      this.#plugin,
    );
    return this.#held;
  }
}

/** What it prints. What it has to say to a person goes to standard error, and so to him. */
function run(plugin: ExecPlugin, interactive: boolean): Promise<string> {
  const { apiVersion, command, args, environment, installHint, cluster } = plugin;
  const info = { kind: 'ExecCredential', apiVersion, spec: { interactive, ...(cluster && { cluster }) } };
  return new Promise((resolve, reject) => {
    const failed = (why: string, cause?: unknown): void =>
      reject(new ExecCredentialError(`exec plugin ${command}: ${why}`, { cause }));
    const child = spawn(command, args, {
      env: { ...process.env, ...environment, KUBERNETES_EXEC_INFO: JSON.stringify(info) },
      stdio: [interactive ? 'inherit' : 'ignore', 'pipe', 'inherit'],
    });
    // Not spawn's own time-out: that goes on, and holds the process, where the program could not be started.
    const patience = setTimeout(() => child.kill(), PATIENCE_MS);
    const chunks: Buffer[] = [];
    let size = 0;
    child.stdout.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size > MAX_OUTPUT_BYTES) child.kill('SIGKILL');
      else chunks.push(chunk);
    });
    child.once('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(patience);
      const isMissing = error.code === 'ENOENT';
      const hint = isMissing && installHint ? `\n\n${installHint}` : '';
      failed(isMissing ? `executable ${command} not found${hint}` : error.message, error);
    });
    child.once('close', (code, signal) => {
      clearTimeout(patience);
      if (size > MAX_OUTPUT_BYTES) failed(`it printed more than ${MAX_OUTPUT_BYTES} bytes`);
      else if (code !== 0) failed(`it failed with ${signal ? `signal ${signal}` : `exit code ${code}`}`);
      else resolve(Buffer.concat(chunks).toString());
    });
  });
}

function readCredential(text: string, { apiVersion, command }: ExecPlugin): Credential {
  const wrong = (why: string, cause?: unknown) =>
    new ExecCredentialError(`exec plugin ${command} is configured for ${apiVersion}, but ${why}`, { cause });
  let read: unknown;
  try {
    read = JSON.parse(text);
  } catch (cause) {
    throw wrong('what it printed is no JSON', cause);
  }
  const { kind, apiVersion: version, status } = (read ?? {}) as Record<string, unknown>;
  if (kind !== 'ExecCredential' || version !== apiVersion)
    throw wrong(`it printed ${String(kind)} of version ${String(version)}`);
  const { token, clientCertificateData, clientKeyData, expirationTimestamp } = (status ?? {}) as Record<
    string,
    unknown
  >;
  const asText = (value: unknown): string | undefined =>
    typeof value === 'string' && value !== '' ? value : undefined;
  const [cert, key] = [asText(clientCertificateData), asText(clientKeyData)];
  if ((cert === undefined) !== (key === undefined)) throw wrong('it printed a certificate or a key without the other');
  if (asText(token) === undefined && cert === undefined) throw wrong('it printed neither a token nor a certificate');
  const expiresAtMs = expirationTimestamp === undefined ? undefined : Date.parse(String(expirationTimestamp));
  if (Number.isNaN(expiresAtMs))
    throw wrong(`it printed an expirationTimestamp that is no time: ${String(expirationTimestamp)}`);
  return { token: asText(token), cert, key, expiresAtMs };
}
