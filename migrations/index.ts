/**
 * The migrations in their order: forward-only, numbered from 1 by their place here (and in their file's name), never edited once they have been released. Run by `state/migrate.ts`.
 */
import type { Kysely } from 'kysely';
import * as projection from './0001-projection.ts';
import * as runtimeState from './0002-runtime-state.ts';
import * as roles from './0003-roles.ts';
import * as reasons from './0004-reasons.ts';
import * as eventRetention from './0005-event-retention.ts';
import * as sqlForPeople from './0006-sql.ts';
import * as rebuilds from './0007-rebuilds.ts';
import * as lateNews from './0008-late-news.ts';

export interface Migration {
  readonly name: string;
  up(db: Kysely<unknown>): Promise<void>;
}

export const migrations: readonly Migration[] = [
  projection,
  runtimeState,
  roles,
  reasons,
  eventRetention,
  sqlForPeople,
  rebuilds,
  lateNews,
];
