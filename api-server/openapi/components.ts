/**
 * The schemas of types as OpenAPI components: every type that a set of roots reaches, by its full name, with references between them. Used by the OpenAPI documents.
 */
import type { Schema } from '../../api-schemas/schema.ts';

/** Keywords of ours that mean nothing to an OpenAPI reader. */
const OWN_KEYWORD = /^(title|x-protobuf.*|x-reckon-.*)$/;

/** Collects components by name as they are first referred to. */
export class Components {
  readonly #prefix: string;
  readonly #schemas = new Map<string, unknown>();

  /** `prefix`: `#/components/schemas/` for version 3, `#/definitions/` for version 2. */
  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  /** A reference to a titled type, or the inline form of any other. */
  of(schema: Schema): Record<string, unknown> {
    const { title } = schema;
    if (title === undefined) return this.#inline(schema);
    if (!this.#schemas.has(title)) {
      // Named before it is written, so that a type may contain itself.
      this.#schemas.set(title, undefined);
      this.#schemas.set(title, this.#inline(schema));
    }
    return { $ref: this.#prefix + title };
  }

  add(title: string, extra: Record<string, unknown>): void {
    this.#schemas.set(title, { ...(this.#schemas.get(title) as object | undefined), ...extra });
  }

  sorted(): Record<string, unknown> {
    return Object.fromEntries([...this.#schemas].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  #inline(schema: Schema): Record<string, unknown> {
    const node: Record<string, unknown> = {};
    for (const [keyword, value] of Object.entries(schema)) {
      if (OWN_KEYWORD.test(keyword)) continue;
      if (keyword === 'properties')
        node[keyword] = Object.fromEntries(
          Object.entries(value as Record<string, Schema>).map(([name, child]) => [name, this.#property(child)]),
        );
      else if (keyword === 'items' || (keyword === 'additionalProperties' && typeof value === 'object'))
        node[keyword] = this.#property(value as Schema);
      else if (keyword === 'oneOf' || keyword === 'anyOf' || keyword === 'allOf')
        node[keyword] = (value as Schema[]).map((child) => this.#property(child));
      else node[keyword] = value;
    }
    return node;
  }

  /** Keywords beside a reference, such as a field's own description, stand outside it. */
  #property(schema: Schema): Record<string, unknown> {
    const reference = this.of(schema);
    if (!('$ref' in reference)) return reference;
    const { description, default: standard } = schema;
    if (description === undefined && standard === undefined) return reference;
    return {
      ...(description !== undefined && { description }),
      ...(standard !== undefined && { default: standard }),
      allOf: [reference],
    };
  }
}
