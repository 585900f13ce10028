/** When a pod's tokens are had anew, and what it is shown while none can be had. */
import t from 'tap';
import { pino } from 'pino';
import type { Pod } from '../../../controllers/pods/observation.ts';
import { PodTokens, tokenId, type PodToken } from '../../../controllers/pods/tokens.ts';
import { ApiError, ApiUnreachableError, type Client } from '../../../sdk/client.ts';

const LIFETIME_MS = 3_600_000;

const podWith = (...projections: { path: string; audience?: string; expirationSeconds?: number }[]): Pod =>
  ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'web', namespace: 'shop', uid: 'u1' },
    spec: {
      serviceAccountName: 'seller',
      containers: [],
      volumes: [
        { name: 'tokens', projected: { sources: projections.map((serviceAccountToken) => ({ serviceAccountToken })) } },
      ],
    },
  }) as unknown as Pod;

t.test('a token lasts four fifths of its time, and longer only while there is no other', async (t) => {
  let nowMs = Date.UTC(2030, 0, 1);
  let away = false;
  const asked: Record<string, unknown>[] = [];
  const client = {
    post: async (target: object, body: { spec: object }) => {
      await Promise.resolve();
      if (away) throw new Error('connection refused');
      asked.push({ ...target, ...body.spec });
      const expirationTimestamp = new Date(nowMs + LIFETIME_MS).toISOString();
      return { status: { token: `token-${asked.length}`, expirationTimestamp } };
    },
  };
  const tokens = new PodTokens({
    client: client as unknown as Client,
    logger: pino({ level: 'silent' }),
    now: () => nowMs,
  });
  const pod = podWith(
    { path: 'token' },
    { path: 'again' },
    { path: 'vault', audience: 'vault', expirationSeconds: 600 },
  );
  const shown = async (): Promise<PodToken | undefined> => (await tokens.of(pod)).get(tokenId({ path: 'token' }));

  const [first] = await Promise.all([shown(), shown()]);
  t.match(first, { token: 'token-1' });
  t.equal(asked.length, 2, 'each kind once, though two ask at a time');
  const bound = { apiVersion: 'v1', kind: 'Pod', name: 'web', uid: 'u1' };
  t.match(asked, [
    { name: 'seller', namespace: 'shop', subresource: 'token', expirationSeconds: 3600, boundObjectRef: bound },
    { audiences: ['vault'], expirationSeconds: 600, boundObjectRef: bound },
  ]);
  nowMs += LIFETIME_MS * 0.79;
  t.match(await shown(), { token: 'token-1' });
  away = true;
  nowMs += LIFETIME_MS * 0.02;
  t.match(await shown(), { token: 'token-1' }, 'still good');
  nowMs += LIFETIME_MS * 0.2;
  t.match(await shown(), { fault: 'failed to fetch token: connection refused' });
  away = false;
  t.match(await shown(), { fault: /refused/ }, 'not asked for again at once');
  nowMs += 10_001;
  t.match(await shown(), { token: /^token-[34]$/ });
});

for (const [what, error, soonestMs] of [
  ['was away', new ApiUnreachableError('no answer'), 1_000],
  ['could not serve', new ApiError({ code: 503, reason: 'ServiceUnavailable', message: 'away' }), 1_000],
  ['refused', new ApiError({ code: 403, reason: 'Forbidden', message: 'may not' }), 10_000],
] as const)
  t.test(`a server that ${what} is asked again after ${soonestMs / 1000} s`, async (t) => {
    let nowMs = 0;
    let asked = 0;
    const client = {
      post: async () => {
        if (++asked === 1) throw error;
        return { status: { token: 'the token', expirationTimestamp: new Date(nowMs + 3_600_000).toISOString() } };
      },
    } as unknown as Client;
    const tokens = new PodTokens({ client, logger: pino({ level: 'silent' }), now: () => nowMs });
    const pod = podWith({ path: 'token' });
    const shown = async () => [...(await tokens.of(pod)).values()];
    t.match(await shown(), [{ fault: /failed to fetch token/ }]);
    nowMs = soonestMs - 1;
    t.match(await shown(), [{ fault: /failed to fetch token/ }]);
    t.equal(asked, 1, 'not at once');
    nowMs = soonestMs;
    t.match(await shown(), [{ token: 'the token' }]);
  });
