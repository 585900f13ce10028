/**
 * What the node agents observe, in PostgreSQL. An agent records through `openAgentState`; controllers, the API server and `reckon` read through `openRuntimeState`. Everything rejects with
 * StateUnavailableError within 3 s when PostgreSQL cannot be reached; an agent then goes on without it and records a snapshot when it is back.
 */
import { sql } from 'kysely';
import type { Kysely, RawBuilder, Transaction } from 'kysely';
import { newKysely } from './database.ts';
import { answered } from './errors.ts';
import { toFacts, toRow } from './runtime-rows.ts';
import type {
  AddressFacts,
  ContainerFacts,
  ImageFacts,
  NodeInfo,
  NodeState,
  RuntimeEvent,
  RuntimeTables,
  UsageFacts,
  VolumeFacts,
} from './runtime-facts.ts';

export interface RuntimeStateOptions {
  /** Shows in pg_stat_activity, such as `reckon pods`. */
  readonly applicationName?: string;
  readonly maxConnections?: number;
}

/** All that is on a node. A part that is left out stays as it was recorded. */
export interface NodeSnapshot {
  readonly containers?: readonly ContainerFacts[];
  readonly images?: readonly ImageFacts[];
  readonly volumes?: readonly VolumeFacts[];
  readonly addresses?: readonly AddressFacts[];
}

export /** So many old events go with one statement. */
const PRUNE_AT_ONCE = 5_000;
const MAX_EVENTS = 1_000;
const STATEMENT_TIMEOUT_MS = 2_500;

/** The tables that a node's agent keeps equal to its engine: the column beside `node` that names a row, and the columns that are compared and written. */
const TABLES = {
  containers: {
    key: 'id',
    columns: [
      'pod_uid',
      'pod_namespace',
      'pod_name',
      'container_name',
      'attempt',
      'image',
      'image_id',
      'state',
      'pid',
      'exit_code',
      'oom_killed',
      'created_at',
      'started_at',
      'finished_at',
      'address',
      'labels',
      'causes',
    ],
  },
  images: { key: 'id', columns: ['tags', 'size_bytes'] },
  volumes: { key: 'name', columns: ['driver', 'mountpoint', 'labels', 'size_bytes', 'created_at'] },
  addresses: { key: 'address', columns: ['pod_uid', 'pod_namespace', 'pod_name'] },
  usage: { key: 'id', columns: ['cpu_nanoseconds', 'memory_bytes'] },
} as const;
type TableName = keyof typeof TABLES;

export function openAgentState(databaseUrl: string, options: RuntimeStateOptions = {}): AgentState {
  return new AgentState(connect(databaseUrl, 'reckon agent', 2, options));
}

export function openRuntimeState(databaseUrl: string, options: RuntimeStateOptions = {}): RuntimeState {
  return new RuntimeState(connect(databaseUrl, 'reckon runtime state', 3, options));
}

function connect(
  databaseUrl: string,
  applicationName: string,
  maxConnections: number,
  options: RuntimeStateOptions,
): Kysely<RuntimeTables> {
  return newKysely({
    databaseUrl,
    applicationName,
    maxConnections,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    ...options,
  });
}

/** The reading half. */
export class RuntimeState {
  protected readonly db: Kysely<RuntimeTables>;

  constructor(db: Kysely<RuntimeTables>) {
    this.db = db;
  }

  async close(): Promise<void> {
    await this.db.destroy();
  }

  /** Every node that has ever sent a heartbeat and was not forgotten, with the heartbeat's age by the database's clock. */
  nodes(): Promise<readonly NodeState[]> {
    return answered(async () => {
      const age = sql<number>`(extract(epoch from clock_timestamp() - heartbeat_at) * 1000)::float8`.as(
        'heartbeat_age_ms',
      );
      return (await this.db.selectFrom('nodes').selectAll().select(age).orderBy('name').execute()).map((row) =>
        toFacts<NodeState>(row),
      );
    });
  }

  containersOfPod(podUid: string): Promise<readonly ContainerFacts[]> {
    return answered(async () => {
      const query = this.db
        .selectFrom('containers')
        .selectAll()
        .where('pod_uid', '=', podUid)
        .orderBy('container_name')
        .orderBy('attempt');
      return (await query.execute()).map((row) => toFacts<ContainerFacts>(row));
    });
  }

  containersOfNode(node: string): Promise<readonly ContainerFacts[]> {
    return answered(async () => {
      const rows = await this.db.selectFrom('containers').selectAll().where('node', '=', node).orderBy('id').execute();
      return rows.map((row) => toFacts<ContainerFacts>(row));
    });
  }

  imagesOfNode(node: string): Promise<readonly ImageFacts[]> {
    return this.#ofNode<ImageFacts>('images', node);
  }

  volumesOfNode(node: string): Promise<readonly VolumeFacts[]> {
    return this.#ofNode<VolumeFacts>('volumes', node);
  }

  addressesOfNode(node: string): Promise<readonly AddressFacts[]> {
    return this.#ofNode<AddressFacts>('addresses', node);
  }

  usageOfNode(node: string): Promise<readonly UsageFacts[]> {
    return this.#ofNode<UsageFacts>('usage', node);
  }

  /** What happened, oldest first. */
  events(filter: {
    podUid?: string;
    node?: string;
    cause?: number;
    after?: number;
    limit?: number;
  }): Promise<readonly RuntimeEvent[]> {
    return answered(async () => {
      let query = this.db.selectFrom('runtime_events').selectAll();
      if (filter.podUid !== undefined) query = query.where('pod_uid', '=', filter.podUid);
      if (filter.node !== undefined) query = query.where('node', '=', filter.node);
      if (filter.cause !== undefined) query = query.where(sql<boolean>`causes @> array[${filter.cause}]::bigint[]`);
      if (filter.after !== undefined) query = query.where('id', '>', filter.after);
      const rows = await query
        .orderBy('id')
        .limit(Math.min(filter.limit ?? MAX_EVENTS, MAX_EVENTS))
        .execute();
      return rows.map((row) => toFacts<RuntimeEvent>(row));
    });
  }

  #ofNode<Facts>(table: 'images' | 'volumes' | 'addresses' | 'usage', node: string): Promise<readonly Facts[]> {
    return answered(async () => {
      const query = sql<object>`select * from ${sql.table(table)} where node = ${node} order by ${sql.ref(TABLES[table].key)}`;
      return (await query.execute(this.db)).rows.map((row) => toFacts<Facts>(row));
    });
  }
}

/** The writing half, for one node's agent. A row that has not changed is not touched. */
export class AgentState extends RuntimeState {
  /** Makes the node's tables equal to what is there, in one transaction. */
  recordSnapshot(node: string, snapshot: NodeSnapshot): Promise<void> {
    return this.#write(async (db) => {
      for (const table of ['containers', 'images', 'volumes', 'addresses'] as const) {
        const facts = snapshot[table];
        if (facts === undefined) continue;
        await removeOthers(db, table, node, facts);
        await put(db, table, node, facts);
      }
      await sql`
        insert into nodes (name, snapshot_at) values (${node}, now()) on conflict (name) do update set snapshot_at = excluded.snapshot_at`.execute(
        db,
      );
    });
  }

  recordContainer(node: string, container: ContainerFacts): Promise<void> {
    return this.#write((db) => put(db, 'containers', node, [container]));
  }

  removeContainer(node: string, id: string): Promise<void> {
    return answered(async () => {
      await this.db.deleteFrom('containers').where('node', '=', node).where('id', '=', id).execute();
    });
  }

  /** Replaces the node's figures. */
  recordUsage(node: string, usage: readonly UsageFacts[]): Promise<void> {
    return this.#write(async (db) => {
      await removeOthers(db, 'usage', node, usage);
      await put(db, 'usage', node, usage);
    });
  }

  /** Something that only the agent knows, such as a failed probe. Changes of a container's state are noted by the database itself. */
  recordEvent(node: string, event: Omit<RuntimeEvent, 'id' | 'time' | 'node'>): Promise<void> {
    return this.#write(async (db) => {
      await sql`
        insert into runtime_events (node, kind, container_id, pod_uid, pod_namespace, pod_name, container_name, attempt, exit_code, message, causes, detail)
        select ${node}, kind, container_id, pod_uid, pod_namespace, pod_name, container_name, attempt, exit_code, message, coalesce(causes, '{}'), detail
        from jsonb_populate_record(null::runtime_events, ${JSON.stringify(toRow(event))}::jsonb)`.execute(db);
    });
  }

  /** Lets go of what happened longer ago than that. Resolves to how many events went. */
  async pruneEvents(keepDays: number): Promise<number> {
    for (let pruned = 0; ;) {
      const gone = await answered(async () => {
        const { rows } = await sql<{ count: number }>`
          select prune_runtime_events(make_interval(days => ${keepDays}), ${PRUNE_AT_ONCE}) as count`.execute(this.db);
        return Number(rows[0]?.count ?? 0);
      });
      pruned += gone;
      if (gone < PRUNE_AT_ONCE) return pruned;
    }
  }

  /** The node is alive; by the database's clock. */
  heartbeat(node: string, info: NodeInfo): Promise<void> {
    const { bootId = null, capacity = {}, ...rest } = info;
    return answered(async () => {
      await sql`
        insert into nodes (name, heartbeat_at, boot_id, capacity, info)
        values (${node}, clock_timestamp(), ${bootId}, ${JSON.stringify(capacity)}::jsonb, ${JSON.stringify(rest)}::jsonb)
        on conflict (name) do update
        set heartbeat_at = excluded.heartbeat_at, boot_id = excluded.boot_id, capacity = excluded.capacity, info = excluded.info`.execute(
        this.db,
      );
    });
  }

  /** Removes everything that is known of a node; its events stay. */
  forgetNode(node: string): Promise<void> {
    return this.#write(async (db) => {
      for (const table of Object.keys(TABLES))
        await sql`delete from ${sql.table(table)} where node = ${node}`.execute(db);
      await sql`delete from nodes where name = ${node}`.execute(db);
    });
  }

  #write(work: (db: Transaction<RuntimeTables>) => Promise<void>): Promise<void> {
    return answered(() => this.db.transaction().execute(work));
  }
}

async function removeOthers(
  db: Transaction<RuntimeTables>,
  table: TableName,
  node: string,
  facts: readonly object[],
): Promise<void> {
  const { key } = TABLES[table];
  const kept = facts.map((fact) => String((fact as Record<string, unknown>)[key]));
  await sql`delete from ${sql.table(table)} where node = ${node} and ${sql.ref(key)} <> all(${kept}::text[])`.execute(
    db,
  );
}

async function put(
  db: Transaction<RuntimeTables>,
  table: TableName,
  node: string,
  facts: readonly object[],
): Promise<void> {
  if (facts.length === 0) return;
  const { key, columns } = TABLES[table];
  const rows = JSON.stringify(facts.map((fact) => toRow(fact)));
  const list = (prefix: string): RawBuilder<unknown> => sql.join(columns.map((column) => sql.ref(prefix + column)));
  await sql`
    insert into ${sql.table(table)} as t (node, ${sql.ref(key)}, ${list('')}, observed_at)
    select ${node}, n.${sql.ref(key)}, ${list('n.')}, now()
    from jsonb_populate_recordset(null::${sql.table(table)}, ${rows}::jsonb) n
    on conflict (node, ${sql.ref(key)}) do update
    set (${list('')}, observed_at) = (select ${list('excluded.')}, now())
    where (${list('t.')}) is distinct from (${list('excluded.')})`.execute(db);
}
