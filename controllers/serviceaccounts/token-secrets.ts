/**
 * Secrets of type kubernetes.io/service-account-token: filled in with a token of the account that they name, which lasts as long as the Secret and the account, and removed with the account. Part of the process of
 * `serviceaccounts`. https://kubernetes.io/docs/concepts/configuration/secret/#serviceaccount-token-secrets
 */
import type { Secret, ServiceAccount } from '../../api-schemas/types/core-v1.ts';
import {
  ApiError,
  keyIn,
  TerminalError,
  type ApiAction,
  type ApiObject,
  type ApplyContext,
  type Client,
  type Controller,
  type Plan,
  type World,
} from '../../sdk/index.ts';
import { SERVICE_ACCOUNTS } from './reconcile.ts';

type SecretObject = Secret & ApiObject;

export const SECRETS = { group: '', version: 'v1', resource: 'secrets' };
const TYPE = 'kubernetes.io/service-account-token';
const ACCOUNT_NAME = 'kubernetes.io/service-account.name';
const ACCOUNT_UID = 'kubernetes.io/service-account.uid';
/** The longest that a token may be asked for: 136 years. It ends with its Secret. */
const FOR_EVER_SECONDS = 2 ** 32;

export interface TokenAction {
  readonly verb: 'fill';
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly account: { readonly name: string; readonly uid: string };
  /** What goes beside the token, in base64. */
  readonly data: Readonly<Record<string, string>>;
  readonly because: string;
}

export interface Observed {
  /** The account that the Secret names, where it stands. */
  readonly account: { readonly name: string; readonly uid: string } | undefined;
  /** What the Secret holds now, in base64; undefined where it is gone by now. */
  readonly data: Readonly<Record<string, string>> | undefined;
  /** PEM. */
  readonly authority: string | undefined;
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

export function reconcile(secret: SecretObject, observed: Observed): Plan<ApiAction | TokenAction> {
  const { name, namespace = '', uid = '', annotations = {} } = secret.metadata;
  const { account, data, authority } = observed;
  if (data === undefined || secret.metadata.deletionTimestamp) return { actions: [] };
  const isOthers = annotations[ACCOUNT_UID] !== undefined && annotations[ACCOUNT_UID] !== account?.uid;
  if (!account || isOthers) {
    const because = `Secret ${name} is for tokens of ServiceAccount ${annotations[ACCOUNT_NAME] ?? ''}, which is gone`;
    return { actions: [{ verb: 'delete', resource: SECRETS, namespace, name, uid, because }] };
  }
  const beside = { ...(authority !== undefined && { 'ca.crt': base64(authority) }), namespace: base64(namespace) };
  const lacks = Object.entries(beside).filter(([key, value]) => data[key] !== value);
  if (data['token'] && lacks.length === 0 && annotations[ACCOUNT_UID] === account.uid) return { actions: [] };
  // Once immutable it stays as it is.
  if (secret.immutable) return { actions: [] };
  const because = data['token']
    ? `Secret ${name} lacks ${lacks.map(([key]) => key).join(' and ') || 'the uid of its ServiceAccount'}`
    : `Secret ${name} has no token of ServiceAccount ${account.name} yet`;
  return { actions: [{ verb: 'fill', namespace, name, uid, account, data: beside, because }] };
}

/** Idempotent: a token that is there by now stays. */
async function fill(action: TokenAction, { client }: ApplyContext): Promise<void> {
  const { namespace, name, uid, account, because } = action;
  const present = await client.get<SecretObject>({ resource: SECRETS, namespace, name });
  if (present.metadata.uid !== uid) return;
  const token = present.data?.['token'] ?? base64(await newToken(action, client));
  await client.patch(
    { resource: SECRETS, namespace, name },
    {
      metadata: {
        uid,
        resourceVersion: present.metadata.resourceVersion,
        annotations: { [ACCOUNT_UID]: account.uid },
      },
      data: { ...action.data, token },
    },
    { because },
  );
}

async function newToken({ namespace, name, uid, account, because }: TokenAction, client: Client): Promise<string> {
  const answer = await client.post(
    { resource: SERVICE_ACCOUNTS, namespace, name: account.name, subresource: 'token' },
    {
      apiVersion: 'authentication.k8s.io/v1',
      kind: 'TokenRequest',
      spec: {
        audiences: [],
        expirationSeconds: FOR_EVER_SECONDS,
        boundObjectRef: { apiVersion: 'v1', kind: 'Secret', name, uid },
      },
    },
    { because },
  );
  const { token } = (answer['status'] ?? {}) as { token?: string };
  if (!token) throw new TerminalError('the API server answered a request for a token without one');
  return token;
}

function accountOf(secret: SecretObject, world: World): Observed['account'] {
  const name = secret.metadata.annotations?.[ACCOUNT_NAME] ?? '';
  const account = world.get<ServiceAccount & ApiObject>(SERVICE_ACCOUNTS, secret.metadata.namespace ?? '', name);
  return account?.metadata.uid === undefined ? undefined : { name, uid: account.metadata.uid };
}

export function tokenSecrets(
  authority: string | undefined,
): Controller<SecretObject, Observed, ApiAction | TokenAction> {
  let client: Client | undefined;
  /** Sealed in the log: only the API server shows it. */
  const dataOf = async (namespace: string, name: string): Promise<Observed['data']> => {
    try {
      return (await client?.get<SecretObject>({ resource: SECRETS, namespace, name }))?.data ?? {};
    } catch (error) {
      if (error instanceof ApiError && error.is('NotFound')) return undefined;
      throw error;
    }
  };
  return {
    name: 'serviceaccounttokens',
    resource: SECRETS,
    watches: [
      {
        resource: SERVICE_ACCOUNTS,
        keysFor: ({ metadata: { name, namespace = '' } }, _previous, world) =>
          world
            .list<SecretObject>(SECRETS, { namespace })
            .filter(({ type, metadata }) => type === TYPE && metadata.annotations?.[ACCOUNT_NAME] === name)
            .map(({ metadata }) => keyIn(SECRETS, namespace, metadata.name)),
      },
    ],
    async start(context) {
      client = context.client;
    },
    async observe(key, world) {
      const secret = world.get<SecretObject>(SECRETS, key.namespace, key.name);
      if (secret?.type !== TYPE) return undefined;
      const data = await dataOf(key.namespace, key.name);
      return { desired: secret, observed: { account: accountOf(secret, world), data, authority } };
    },
    reconcile,
    apply: fill,
  };
}
