/**
 * The pages of a list. Every page comes from the snapshot that the first was taken from: kept in memory by the server that took it, and asked of the projection's history by any other. After some minutes the client is told
 * to begin again, or to go on with what stands by then. Called by `list.ts`.
 * https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
 */
import { randomUUID } from 'node:crypto';
import type { Call } from '../call.ts';
import { badRequest, expired, StatusError } from '../errors.ts';
import type { Entry } from '../store/entry.ts';

export interface Snapshot {
  /** What was listed: a token is good for nothing else. */
  readonly scope: string;
  readonly revision: number;
  readonly entries: readonly Entry[];
  /** Of a list of the past. */
  readonly asOfMs?: number;
  readonly expiresAt: number;
}

/** Where a list is to go on. */
export interface Page {
  readonly snapshot: Snapshot;
  /** Index of its first entry. */
  readonly start: number;
}

/** How a snapshot that is not at hand is taken. */
export interface Retake {
  /** The entries of the list as they stood then, or undefined where nobody knows. */
  at(standing: Pick<Snapshot, 'revision' | 'asOfMs'>): Promise<readonly Entry[] | undefined>;
  now(): Promise<Snapshot>;
}

/** What a token says. */
interface Token {
  readonly scope: string;
  /** Of the last entry that the client has. */
  readonly after: string;
  /** Absent: of a list that goes on with what stands now. */
  readonly snapshot?: Pick<Snapshot, 'revision' | 'expiresAt' | 'asOfMs'> & { readonly id: string };
}

export const SNAPSHOT_LIFE_MS = 5 * 60_000;
/** More unfinished paged lists than this, and the oldest is taken anew. */
const MAX_SNAPSHOTS = 1_000;
const TOO_OLD =
  'The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the ' +
  'results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.';
/** Of each server, its own. */
const kept = new WeakMap<Server, Map<string, Snapshot>>();

type Server = Call['services'];

function keptBy(server: Server): Map<string, Snapshot> {
  let snapshots = kept.get(server);
  if (!snapshots) kept.set(server, (snapshots = new Map()));
  return snapshots;
}

/** The token of the page that begins at `start`. */
export function suspend(server: Server, snapshot: Snapshot, start: number): string {
  const now = Date.now();
  const snapshots = keptBy(server);
  for (const [id, { expiresAt }] of snapshots) if (expiresAt < now) snapshots.delete(id);
  if (snapshots.size >= MAX_SNAPSHOTS) snapshots.delete(snapshots.keys().next().value as string);
  const id = randomUUID();
  snapshots.set(id, snapshot);
  const { scope, revision, expiresAt, asOfMs } = snapshot;
  const after = snapshot.entries[start - 1]?.id ?? '';
  return written({ scope, after, snapshot: { id, revision, expiresAt, ...(asOfMs !== undefined && { asOfMs }) } });
}

/** Throws Expired, with a token that goes on with what stands now, when the list is too old; BadRequest for what is no token of this list. */
export async function resume(
  server: Server,
  { text, scope, retake }: { text: string; scope: string; retake: Retake },
): Promise<Page> {
  const token = readToken(text);
  if (token.scope !== scope)
    throw badRequest('continue key is not valid: it belongs to a list of something else, or with other selectors');
  const { after, snapshot: wanted } = token;
  if (!wanted) return pageAfter(await retake.now(), after);
  const { id, ...standing } = wanted;
  const tooOld = () => expired(TOO_OLD, { continueToken: written({ scope, after }) });
  if (standing.expiresAt < Date.now()) throw tooOld();
  const known = keptBy(server).get(id);
  if (known) return pageAfter(known, after);
  const entries = await retake.at(standing).catch((error: unknown) => {
    if (error instanceof StatusError && error.reason === 'Expired') return undefined;
    throw error;
  });
  if (!entries) throw tooOld();
  return pageAfter({ scope, ...standing, entries }, after);
}

function pageAfter(snapshot: Snapshot, after: string): Page {
  const start = snapshot.entries.findIndex(({ id }) => id > after);
  return { snapshot, start: start === -1 ? snapshot.entries.length : start };
}

const written = (token: Token): string => Buffer.from(JSON.stringify(token)).toString('base64url');

/** Throws BadRequest. */
export function readToken(text: string): Token {
  const refuse = (cause?: unknown) =>
    badRequest('continue key is not valid: expected the token of an earlier page', { cause });
  let token: Partial<Token>;
  try {
    token = JSON.parse(Buffer.from(text, 'base64url').toString()) as Partial<Token>;
  } catch (cause) {
    throw refuse(cause);
  }
  if (typeof token?.scope !== 'string' || typeof token.after !== 'string') throw refuse();
  const { snapshot } = token;
  const isSound = [snapshot?.revision, snapshot?.expiresAt].every(
    (each) => Number.isSafeInteger(each) && Number(each) >= 0,
  );
  if (snapshot && (!isSound || typeof snapshot.id !== 'string')) throw refuse();
  return token as Token;
}
