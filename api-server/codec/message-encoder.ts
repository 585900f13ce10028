/** Turns the JSON form of a type into its protobuf message, writing what is set. Called by `protobuf.ts`. Everything is written backwards: see `wire-writer.ts`. */
import { parseTime } from '../admission/time.ts';
import type { Branch, FieldPlan, MessagePlan, ValueType } from './message-plan.ts';
import { BYTES, FIXED64, VARINT } from './wire-reader.ts';
import type { WireWriter } from './wire-writer.ts';

type JsonObject = Record<string, unknown>;

export function writeMessage(writer: WireWriter, object: JsonObject, plan: MessagePlan): void {
  for (let index = plan.fields.length - 1; index >= 0;) {
    const field = plan.fields[index] as FieldPlan;
    if (field.within === undefined) {
      writeField(writer, object, field);
      index -= 1;
      continue;
    }
    const end = writer.length;
    let written = false;
    for (let inner = plan.fields[index]; inner?.within === field.within; inner = plan.fields[--index]) {
      if (isSet(object, inner.name)) written = true;
      writeField(writer, object, inner);
    }
    if (!written) continue;
    writer.uint32(writer.length - end);
    writer.tag(field.within, BYTES);
  }
}

const isSet = (object: JsonObject, name: string): boolean =>
  Object.hasOwn(object, name) && object[name] !== undefined && object[name] !== null;

function writeField(writer: WireWriter, object: JsonObject, { name, number, shape, value: type }: FieldPlan): void {
  if (!isSet(object, name)) return;
  const value = object[name];
  if (shape === 'list') {
    for (const item of (value as unknown[]).toReversed()) writeTagged(writer, number, item, type);
  } else if (shape === 'map') {
    for (const [key, entry] of Object.entries(value as JsonObject).reverse()) {
      const end = writer.length;
      writeTagged(writer, 2, entry, type);
      writer.string(key);
      writer.tag(1, BYTES);
      writer.uint32(writer.length - end);
      writer.tag(number, BYTES);
    }
  } else writeTagged(writer, number, value, type);
}

function writeTagged(writer: WireWriter, number: number, value: unknown, type: ValueType): void {
  switch (type.is) {
    case 'int':
      writer.int64(Number(value));
      return writer.tag(number, VARINT);
    case 'bool':
      writer.uint32(value === true ? 1 : 0);
      return writer.tag(number, VARINT);
    case 'double':
      writer.double(Number(value));
      return writer.tag(number, FIXED64);
    case 'string':
      writer.string(String(value));
      return writer.tag(number, BYTES);
    case 'bytes':
      writer.bytes(Buffer.from(String(value), 'base64'));
      return writer.tag(number, BYTES);
    default: {
      const end = writer.length;
      writeBody(writer, value, type);
      writer.uint32(writer.length - end);
      return writer.tag(number, BYTES);
    }
  }
}

/** Where there is a flag beside the object, it is set: so Go says that there is something. */
function writeChoice(writer: WireWriter, value: unknown, branches: readonly Branch[]): void {
  const json = Array.isArray(value) ? 'array' : typeof value;
  for (const branch of branches.toSorted((a, b) => b.number - a.number)) {
    if (branch.json === json) {
      const items: unknown[] = Array.isArray(value) ? value.toReversed() : [value];
      for (const item of items) writeTagged(writer, branch.number, item, branch.value);
    } else if (branch.json === 'boolean') writeTagged(writer, branch.number, true, branch.value);
  }
}

type Composite = Exclude<ValueType, { readonly is: 'string' | 'bytes' | 'int' | 'bool' | 'double' }>;

function writeBody(writer: WireWriter, value: unknown, type: ValueType): void {
  const composite = type as Composite;
  switch (composite.is) {
    case 'quantity':
      writer.string(String(value));
      return writer.tag(1, BYTES);
    case 'time':
    case 'microTime': {
      const time = parseTime(String(value));
      if (!time) return;
      writer.int64(composite.is === 'time' ? 0 : time.nanos);
      writer.tag(2, VARINT);
      writer.int64(time.seconds);
      return writer.tag(1, VARINT);
    }
    case 'intOrString': {
      const text = typeof value === 'string';
      writer.string(text ? value : '');
      writer.tag(3, BYTES);
      writer.int64(text ? 0 : Number(value));
      writer.tag(2, VARINT);
      writer.uint32(text ? 1 : 0);
      return writer.tag(1, VARINT);
    }
    case 'free':
      writer.bytes(Buffer.from(JSON.stringify(value)));
      return writer.tag(1, BYTES);
    case 'wrapped':
      for (const item of (value as unknown[]).toReversed()) writeTagged(writer, 1, item, composite.item);
      return;
    case 'choice':
      return writeChoice(writer, value, composite.branches);
    case 'message':
      return writeMessage(writer, value as JsonObject, composite.plan());
    default:
      return composite satisfies never;
  }
}
