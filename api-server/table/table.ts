/**
 * Objects as the Table that `kubectl get` prints: the columns of the kind's schema, a row per object, and as much of the object beside it as the client asks for. Called by `respond.ts` for objects, lists and
 * watch events. https://kubernetes.io/docs/reference/using-api/api-concepts/#receiving-resources-as-tables
 */
import type { ApiObject, Column, ResourceDefinition } from '../../api-schemas/schema.ts';
import { clusterCells } from './cells/cluster.ts';
import { networkCells } from './cells/networks.ts';
import { podCells, podRowConditions } from './cells/pods.ts';
import { storageCells } from './cells/storage.ts';
import type { Cell } from './cells/reading.ts';
import { workloadCells } from './cells/workloads.ts';
import { NAME_COLUMN } from './name-column.ts';
import { ageOf } from './human-duration.ts';
import { findAll } from './json-path.ts';

export interface TableOptions {
  readonly resourceVersion: string;
  readonly includeObject: 'None' | 'Metadata' | 'Object';
  /** The present, in milliseconds: ages are counted from it. */
  readonly nowMs: number;
  /** Of meta.k8s.io: `v1` or `v1beta1`. */
  readonly version: string;
}

export interface TableRow {
  readonly cells: readonly unknown[];
  readonly conditions?: readonly object[];
  readonly object?: unknown;
}

export interface Table {
  readonly kind: 'Table';
  readonly apiVersion: string;
  readonly metadata: { readonly resourceVersion?: string };
  readonly columnDefinitions: readonly Omit<Column, 'value'>[];
  readonly rows: readonly TableRow[];
}

const CELLS: ReadonlyMap<string, Cell> = new Map(
  Object.entries({ ...podCells, ...workloadCells, ...networkCells, ...storageCells, ...clusterCells }),
);

/** The names that a column may put behind `cell:`. */
export const cellNames: readonly string[] = [...CELLS.keys()];

/** Kinds without columns of their own get these. */
const PLAIN_COLUMNS: readonly Column[] = [
  NAME_COLUMN,
  {
    name: 'Created At',
    type: 'date',
    format: '',
    priority: 0,
    description: 'When the object was created.',
    value: '.metadata.creationTimestamp',
  },
];
const DEFAULT_CLASS = 'storageclass.kubernetes.io/is-default-class';

type ValueOf = (object: ApiObject, nowMs: number) => unknown;

interface Plan {
  readonly definitions: readonly Omit<Column, 'value'>[];
  readonly values: readonly ValueOf[];
}

const plans = new WeakMap<readonly Column[], Plan>();

export function toTable(definition: ResourceDefinition, objects: readonly ApiObject[], options: TableOptions): Table {
  const { definitions, values } = planOf(definition);
  return {
    kind: 'Table',
    apiVersion: `meta.k8s.io/${options.version}`,
    metadata: options.resourceVersion === '' ? {} : { resourceVersion: options.resourceVersion },
    columnDefinitions: definitions,
    rows: objects.map((object) => rowOf(definition, object, values, options)),
  };
}

function rowOf(
  { group, kind }: ResourceDefinition,
  object: ApiObject,
  values: readonly ValueOf[],
  { includeObject, nowMs, version }: TableOptions,
): TableRow {
  const cells = values.map((value) => value(object, nowMs));
  const conditions = group === '' && kind === 'Pod' ? podRowConditions(object) : undefined;
  const row = conditions ? { cells, conditions } : { cells };
  if (includeObject === 'None') return row;
  if (includeObject === 'Object') return { ...row, object };
  return {
    ...row,
    object: { kind: 'PartialObjectMetadata', apiVersion: `meta.k8s.io/${version}`, metadata: object.metadata },
  };
}

function planOf(definition: ResourceDefinition): Plan {
  const columns = definition.columns.length > 0 ? definition.columns : PLAIN_COLUMNS;
  let plan = plans.get(columns);
  if (plan) return plan;
  plan = {
    definitions: columns.map(({ value: _, ...column }) => column),
    values: columns.map((column) => (definition.custom ? customValueOf(column) : valueOf(column, definition))),
  };
  plans.set(columns, plan);
  return plan;
}

function valueOf(column: Column, { kind }: ResourceDefinition): ValueOf {
  if (column.value.startsWith('cell:')) {
    const cell = CELLS.get(column.value.slice('cell:'.length));
    if (!cell) throw new Error(`column ${column.name} of ${kind} names a cell that there is not: ${column.value}`);
    return (object, nowMs) => cell({ object, nowMs });
  }
  if (column.value === '.metadata.name') {
    return kind === 'StorageClass'
      ? ({ metadata }) => `${metadata.name}${metadata.annotations?.[DEFAULT_CLASS] === 'true' ? ' (default)' : ''}`
      : ({ metadata }) => metadata.name;
  }
  return (object, nowMs) => plainCell(findAll(object, column.value), column, nowMs);
}

/** A custom kind's column shows the first thing that its path finds, if that is of the column's type. */
function customValueOf({ type, value: path }: Column): ValueOf {
  if (path === '.metadata.name') return ({ metadata }) => metadata.name;
  return (object, nowMs) => {
    const [value] = findAll(object, path);
    if (value === undefined) return null;
    switch (type) {
      case 'string':
        return typeof value === 'string' ? value : JSON.stringify(value);
      case 'date':
        return typeof value === 'string' ? ageOf(value, nowMs) : null;
      case 'integer':
        return typeof value === 'number' ? Math.trunc(value) : null;
      case 'number':
        return typeof value === 'number' ? value : null;
      case 'boolean':
        return typeof value === 'boolean' ? value : null;
      default:
        return null;
    }
  };
}

/** What a path found, as the column's type wants it. */
function plainCell(found: readonly unknown[], { type, name }: Column, nowMs: number): unknown {
  const [value] = found;
  if (value === undefined) return type === 'string' ? '' : null;
  switch (type) {
    case 'string':
      return found.map((each) => (typeof each === 'string' ? each : JSON.stringify(each))).join(',');
    case 'date':
      // Kinds without a printer of their own show the time itself; a custom resource's column shows how long ago it was.
      return name === 'Created At' ? value : ageOf(value, nowMs);
    case 'integer':
      return typeof value === 'number' ? Math.trunc(value) : value;
    default:
      return value;
  }
}
