/** The subresources by name, as `server.ts` dispatches them; a kind has those that its schema declares. */
import type { Duplex } from 'node:stream';
import type { Call } from '../call.ts';
import { methodNotAllowed } from '../errors.ts';
import { get } from '../verbs/get.ts';
import { patch } from '../verbs/patch.ts';
import { update } from '../verbs/update.ts';
import { credentials, position } from '../consumers/credentials.ts';
import { binding } from './binding.ts';
import { eviction } from './eviction.ts';
import { log, portForward, stream, upgradeRequired } from './pod-streams.ts';
import { proxy, proxyUpgrade } from './proxy.ts';
import { scale } from './scale.ts';
import { token } from './token.ts';

type Handler = (call: Call) => Promise<void>;

/** The object itself, of which only a part is written: `verbs/write.ts` knows which. */
async function part(call: Call): Promise<void> {
  switch (call.target.verb) {
    case 'get':
      return get(call);
    case 'update':
      return update(call);
    case 'patch':
      return patch(call);
    default:
      throw methodNotAllowed(call.request.method ?? '');
  }
}

export const subresources: Readonly<Record<string, Handler>> = {
  status: part,
  approval: part,
  finalize: part,
  ephemeralcontainers: part,
  scale,
  binding,
  eviction,
  log,
  proxy,
  token,
  credentials,
  position,
  exec: upgradeRequired,
  attach: upgradeRequired,
  portforward: upgradeRequired,
};

/** Those that take over the connection. */
export const upgrades: ReadonlyMap<string, (call: Call, upgrade: { socket: Duplex; head: Buffer }) => Promise<void>> =
  new Map([
    ['exec', stream],
    ['attach', stream],
    ['portforward', portForward],
    ['proxy', proxyUpgrade],
  ]);
