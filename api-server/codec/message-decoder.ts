/** Turns protobuf messages into the JSON form of their type, bounded in depth and in the number of values. Called by `protobuf.ts`. */
import { formatTime } from '../admission/time.ts';
import { MAX_DEPTH } from './depth.ts';
import type { Branch, FieldPlan, MessagePlan, ValueType } from './message-plan.ts';
import { BYTES, VARINT, FIXED64, WireError, type WireReader } from './wire-reader.ts';

type JsonObject = Record<string, unknown>;

/** Two bytes on the wire can become an object in memory; a body of the largest size still has to fit. */
const MAX_VALUES = 500_000;

const WIRE_TYPES: Readonly<Partial<Record<ValueType['is'], number>>> = { int: VARINT, bool: VARINT, double: FIXED64 };
const ABSENT = Symbol('absent');

export class MessageDecoder {
  #values = 0;
  #depth = 0;
  /** Reads what a RawExtension holds. */
  readonly #raw: (bytes: Buffer) => unknown;

  constructor(raw: (bytes: Buffer) => unknown) {
    this.#raw = raw;
  }

  /** Reads into `object`: a message that comes in pieces is merged, as protobuf wants it. */
  message(reader: WireReader, plan: MessagePlan, object: JsonObject = {}): JsonObject {
    return this.#nested(() => {
      while (!reader.done) {
        const tag = reader.tag();
        const [number, wireType] = [tag >>> 3, tag & 7];
        const field = plan.byNumber.get(number);
        const inner = plan.within.get(number);
        if (inner && wireType === BYTES) this.#embedded(reader.message(), inner, object);
        else if (field) this.#field(reader, wireType, field, object);
        else reader.skip(wireType);
      }
      return object;
    });
  }

  #nested<T>(read: () => T): T {
    if (++this.#depth > MAX_DEPTH) throw new WireError(`proto: messages nest deeper than ${MAX_DEPTH} levels`);
    try {
      return read();
    } finally {
      this.#depth -= 1;
    }
  }

  #count(): void {
    if (++this.#values > MAX_VALUES) throw new WireError(`proto: more than ${MAX_VALUES} values`);
  }

  #embedded(reader: WireReader, fields: ReadonlyMap<number, FieldPlan>, object: JsonObject): void {
    while (!reader.done) {
      const tag = reader.tag();
      const field = fields.get(tag >>> 3);
      if (field) this.#field(reader, tag & 7, field, object);
      else reader.skip(tag & 7);
    }
  }

  #field(reader: WireReader, wireType: number, field: FieldPlan, object: JsonObject): void {
    const { name, shape, value: type } = field;
    const expected = WIRE_TYPES[type.is] ?? BYTES;
    if (shape === 'map') return this.#entry(reader, field, (object[name] ??= {}) as JsonObject);
    if (shape === 'list') {
      const list = (object[name] ??= []) as unknown[];
      if (wireType === BYTES && expected !== BYTES) return this.#packed(reader.message(), type, list);
      if (wireType !== expected) throw new WireError(`proto: wrong wireType = ${wireType} for field ${name}`);
      const item = this.#value(reader, type, true);
      if (item !== ABSENT) list.push(item);
      return;
    }
    if (wireType !== expected) throw new WireError(`proto: wrong wireType = ${wireType} for field ${name}`);
    if (type.is === 'message') {
      object[name] = this.message(reader.message(), type.plan(), (object[name] ?? {}) as JsonObject);
      return;
    }
    const value = this.#value(reader, type, field.keepZero);
    if (value === ABSENT) delete object[name];
    else object[name] = value;
  }

  #packed(reader: WireReader, type: ValueType, list: unknown[]): void {
    while (!reader.done) list.push(this.#value(reader, type, true));
  }

  /** A map entry is a message of its key (1) and its value (2). */
  #entry(outer: WireReader, { value: type }: FieldPlan, map: JsonObject): void {
    const reader = outer.message();
    let key = '';
    let value: unknown = ABSENT;
    while (!reader.done) {
      const tag = reader.tag();
      if (tag >>> 3 === 1 && (tag & 7) === BYTES) key = reader.string();
      else if (tag >>> 3 === 2 && (tag & 7) === (WIRE_TYPES[type.is] ?? BYTES)) value = this.#value(reader, type, true);
      else reader.skip(tag & 7);
    }
    this.#count();
    // Defined, not assigned: a key may be called `__proto__`.
    Object.defineProperty(map, key, {
      value: value === ABSENT ? zeroOf(type) : value,
      configurable: true,
      enumerable: true,
      writable: true,
    });
  }

  #value(reader: WireReader, type: ValueType, keepZero: boolean): unknown {
    this.#count();
    switch (type.is) {
      case 'string': {
        const text = reader.string();
        return text === '' && !keepZero ? ABSENT : text;
      }
      case 'bytes':
        return reader.bytes().toString('base64');
      case 'int': {
        const value = reader.int64();
        return value === 0 && !keepZero ? ABSENT : value;
      }
      case 'bool': {
        const value = reader.bool();
        return !value && !keepZero ? ABSENT : value;
      }
      case 'double':
        return reader.double();
      case 'quantity':
        return textField(reader.message(), 1) || '0';
      case 'time':
        return timeOf(reader.message(), 0);
      case 'microTime':
        return timeOf(reader.message(), 6);
      case 'intOrString':
        return intOrString(reader.message());
      case 'free':
        return this.#free(reader.message());
      case 'wrapped':
        return this.#wrapped(reader.message(), type.item);
      case 'choice':
        return this.#choice(reader.message(), type.branches);
      case 'message':
        return this.message(reader.message(), type.plan());
      default:
        return type satisfies never;
    }
  }

  #wrapped(reader: WireReader, item: ValueType): unknown[] {
    const list: unknown[] = [];
    while (!reader.done) {
      const tag = reader.tag();
      if (tag >>> 3 === 1 && (tag & 7) === (WIRE_TYPES[item.is] ?? BYTES)) list.push(this.#value(reader, item, true));
      else reader.skip(tag & 7);
    }
    return list;
  }

  /** An object or a list, if there is one; else the flag. */
  #choice(reader: WireReader, branches: readonly Branch[]): unknown {
    let flag: unknown = branches.some(({ json }) => json === 'boolean') ? false : ABSENT;
    let found: unknown = ABSENT;
    while (!reader.done) {
      const tag = reader.tag();
      const branch = branches.find(({ number }) => number === tag >>> 3);
      if (!branch || (tag & 7) !== (WIRE_TYPES[branch.value.is] ?? BYTES)) {
        reader.skip(tag & 7);
        continue;
      }
      const value = this.#nested(() => this.#value(reader, branch.value, true));
      if (branch.json === 'boolean') flag = value;
      else if (branch.json === 'object') found = value;
      else found = [...(Array.isArray(found) ? (found as unknown[]) : []), value];
    }
    return found === ABSENT ? flag : found;
  }

  #free(reader: WireReader): unknown {
    let value: unknown = ABSENT;
    while (!reader.done) {
      const tag = reader.tag();
      if (tag === ((1 << 3) | BYTES)) {
        const bytes = reader.bytes();
        value = bytes.length === 0 ? ABSENT : this.#nested(() => this.#raw(bytes));
      } else reader.skip(tag & 7);
    }
    return value;
  }
}

function zeroOf(type: ValueType): unknown {
  switch (type.is) {
    case 'int':
    case 'double':
    case 'intOrString':
      return 0;
    case 'bool':
      return false;
    case 'quantity':
      return '0';
    case 'wrapped':
      return [];
    case 'choice':
      return false;
    case 'message':
    case 'free':
      return {};
    default:
      return '';
  }
}

function textField(reader: WireReader, field: number): string {
  let text = '';
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === ((field << 3) | BYTES)) text = reader.string();
    else reader.skip(tag & 7);
  }
  return text;
}

/** An empty message is the zero time, which JSON writes as null or not at all. */
function timeOf(reader: WireReader, digits: 0 | 6): unknown {
  if (reader.done) return ABSENT;
  let [seconds, nanos] = [0, 0];
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === ((1 << 3) | VARINT)) seconds = reader.int64();
    else if (tag === ((2 << 3) | VARINT)) nanos = reader.int64();
    else reader.skip(tag & 7);
  }
  return formatTime(seconds, Math.min(Math.max(nanos, 0), 999_999_999), digits) ?? ABSENT;
}

function intOrString(reader: WireReader): unknown {
  let [type, int, text] = [0, 0, ''];
  while (!reader.done) {
    const tag = reader.tag();
    if (tag === ((1 << 3) | VARINT)) type = reader.int64();
    else if (tag === ((2 << 3) | VARINT)) int = reader.int64() | 0;
    else if (tag === ((3 << 3) | BYTES)) text = reader.string();
    else reader.skip(tag & 7);
  }
  return type === 1 ? text : int;
}
