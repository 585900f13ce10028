/**
 * The schemas of types as OpenAPI components: every type that a set of roots reaches, by its full name, with references between them. Used by the OpenAPI documents.
 */
import type { Schema } from '../../api-schemas/schema.ts';
import { specialType } from '../admission/scalar-kinds.ts';

/** Keywords of ours, or of JSON Schema after OpenAPI's draft, that mean nothing to an OpenAPI reader. */
const OWN_KEYWORD = /^(title|propertyNames|x-protobuf.*|x-reckon-.*)$/;
/** What a field says of itself beside the type that it refers to. kubectl reads how to patch from them. */
const BESIDE_REFERENCE = [
  'description',
  'default',
  'x-kubernetes-patch-strategy',
  'x-kubernetes-patch-merge-key',
  'x-kubernetes-list-type',
  'x-kubernetes-list-map-keys',
  'x-kubernetes-map-type',
] as const;

const PREFIX = { v2: '#/definitions/', v3: '#/components/schemas/' } as const;

type Node = Record<string, unknown>;

/** Collects components by name as they are first referred to. */
export class Components {
  readonly #style: 'v2' | 'v3';
  readonly #typeOf: (title: string) => Schema | undefined;
  readonly #schemas = new Map<string, unknown>();

  /** `typeOf` answers with a type as it stands alone, so that what a field adds to it can be told apart. */
  constructor(style: 'v2' | 'v3', typeOf: (title: string) => Schema | undefined) {
    this.#style = style;
    this.#typeOf = typeOf;
  }

  /** A reference to a titled type, or the inline form of any other. */
  of(schema: Schema): Node {
    const { title } = schema;
    if (title === undefined) return this.#inline(schema);
    if (!this.#schemas.has(title)) {
      // Named before it is written, so that a type may contain itself.
      this.#schemas.set(title, undefined);
      this.#schemas.set(title, this.#inline(this.#typeOf(title) ?? schema));
    }
    return this.reference(title);
  }

  reference(title: string): Node {
    return { $ref: PREFIX[this.#style] + title };
  }

  add(title: string, extra: Node): void {
    this.#schemas.set(title, { ...(this.#schemas.get(title) as object | undefined), ...extra });
  }

  sorted(): Node {
    return Object.fromEntries([...this.#schemas].sort(([a], [b]) => (a < b ? -1 : 1)));
  }

  #inline(schema: Schema): Node {
    const special = this.#style === 'v2' ? specialType(schema) : undefined;
    const node: Node = {};
    for (const [keyword, value] of Object.entries(schema)) {
      if (OWN_KEYWORD.test(keyword)) continue;
      if (keyword === 'properties') {
        const properties = Object.entries(value as Record<string, Schema>);
        node[keyword] = Object.fromEntries(properties.map(([name, child]) => [name, this.#property(child)]));
      } else if (keyword === 'items' || (keyword === 'additionalProperties' && typeof value === 'object')) {
        node[keyword] = this.#property(value as Schema);
      } else if (keyword === 'oneOf' || keyword === 'anyOf' || keyword === 'allOf') {
        // Version 2 has no choices: there a type that JSON spells in two ways is called a string.
        if (this.#style === 'v2') continue;
        node[keyword] = (value as Schema[]).map((child) => this.#property(child));
      } else node[keyword] = value;
    }
    if (special === 'quantity' || special === 'intOrString') node['type'] = 'string';
    return node;
  }

  #property(schema: Schema): Node {
    const reference = this.of(schema);
    if (!('$ref' in reference) || schema.title === undefined) return reference;
    const type = this.#typeOf(schema.title);
    const own: Node = {};
    for (const keyword of BESIDE_REFERENCE) {
      const value = schema[keyword];
      if (value !== undefined && value !== type?.[keyword]) own[keyword] = value;
    }
    if (Object.keys(own).length === 0) return reference;
    return this.#style === 'v2' ? { ...reference, ...own } : { ...own, allOf: [reference] };
  }
}
