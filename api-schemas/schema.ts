/**
 * What a loaded schema looks like to the rest of the program: the single definition from which validation, defaulting, types, OpenAPI,
 * merge behaviour, table columns and protobuf are read. Built by `registry.ts` from the JSON files of this folder (and, at run time, from
 * CustomResourceDefinitions); read by every room.
 */

/** A JSON Schema (2020-12) node with every `$ref` already replaced by the node it names, so that walkers never resolve anything. May be cyclic. */
export interface Schema {
  /** The name of a shared type, such as `io.k8s.api.core.v1.Container`; absent on inline nodes. */
  readonly title?: string;
  readonly description?: string;
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean';
  readonly format?: string;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | boolean;
  /** What every key of a map must look like: only `minLength` and `format`. */
  readonly propertyNames?: Schema;
  readonly items?: Schema;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  /** Applied when the field is absent and its parent is present, before the defaults below it (`{}` therefore creates a parent). */
  readonly default?: unknown;
  readonly pattern?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly minLength?: number;
  readonly maxLength?: number;
  readonly minItems?: number;
  readonly maxItems?: number;
  readonly minProperties?: number;
  readonly maxProperties?: number;
  readonly uniqueItems?: boolean;
  /** The value may be null and stays so (kinds defined at run time; everywhere else null means absent). */
  readonly nullable?: boolean;
  readonly oneOf?: readonly Schema[];
  readonly anyOf?: readonly Schema[];
  readonly allOf?: readonly Schema[];
  readonly not?: Schema;
  /** As OpenAPI 3.0 has them: whether `minimum` and `maximum` themselves are outside. */
  readonly exclusiveMinimum?: boolean;
  readonly exclusiveMaximum?: boolean;
  readonly multipleOf?: number;
  readonly 'x-kubernetes-list-type'?: 'atomic' | 'set' | 'map';
  readonly 'x-kubernetes-list-map-keys'?: readonly string[];
  readonly 'x-kubernetes-map-type'?: 'atomic' | 'granular';
  readonly 'x-kubernetes-patch-strategy'?: string;
  readonly 'x-kubernetes-patch-merge-key'?: string;
  readonly 'x-kubernetes-int-or-string'?: boolean;
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean;
  readonly 'x-kubernetes-embedded-resource'?: boolean;
  readonly 'x-kubernetes-validations'?: readonly ValidationRule[];
  readonly 'x-kubernetes-group-version-kind'?: readonly {
    readonly group: string;
    readonly version: string;
    readonly kind: string;
  }[];
  /** Field number and wire type in Kubernetes' protobuf, such as `[7, "repeated EnvVar"]`. */
  readonly 'x-protobuf'?: readonly [number: number, type: string];
  /**
   * The field sits in a message of its own on the wire though not in JSON (Go's embedded structs): the number and type of that message
   * within the type at hand. `x-protobuf` is then the number inside it. Example: Volume.emptyDir is field 2 of VolumeSource, field 2 of Volume.
   */
  readonly 'x-protobuf-within'?: readonly [number: number, type: string];
  /** Full protobuf message name, such as `k8s.io.api.core.v1.Container`. */
  readonly 'x-protobuf-message'?: string;
  /** Protobuf fields of types whose JSON form is a scalar (Time, Quantity, IntOrString, …). */
  readonly 'x-protobuf-other'?: Readonly<Record<string, readonly [number: number, type: string]>>;
}

/** A cross-field rule in CEL, as in CustomResourceDefinitions: `self`, and `oldSelf` on update (a rule that names `oldSelf` is a transition rule). */
export interface ValidationRule {
  readonly rule: string;
  readonly message?: string;
  /** An expression that gives the message; where it cannot be evaluated, `message` stands in for it. */
  readonly messageExpression?: string;
  /** A transition rule is evaluated on creation too; `oldSelf` is then an optional. */
  readonly optionalOldSelf?: boolean;
  /** Path below the node the rule stands on, such as `.selector`. */
  readonly fieldPath?: string;
  readonly reason?: 'FieldValueInvalid' | 'FieldValueForbidden' | 'FieldValueRequired' | 'FieldValueDuplicate';
}

/** One column of the table that `kubectl get` prints. */
export interface Column {
  readonly name: string;
  readonly type: string;
  readonly format: string;
  /** 0 is always shown, 1 only with `-o wide`. */
  readonly priority: number;
  readonly description: string;
  /** A JSONPath into the object (`.spec.replicas`), or the name of a computed cell (`cell:podStatus`). */
  readonly value: string;
}

/** A subresource such as `status`, `scale` or `log`. */
export interface Subresource {
  readonly name: string;
  readonly kind: string;
  readonly group: string;
  readonly version: string;
  readonly verbs: readonly string[];
}

/** Where the scale subresource finds its numbers, as JSON paths such as `.spec.replicas`. */
export interface ScalePaths {
  readonly specReplicasPath: string;
  readonly statusReplicasPath: string;
  readonly labelSelectorPath?: string;
}

/** One served resource: everything the generic path needs to know about a kind. */
export interface ResourceDefinition {
  readonly group: string;
  readonly version: string;
  /** Plural, lower case: `deployments`. */
  readonly resource: string;
  readonly singular: string;
  readonly kind: string;
  readonly listKind: string;
  readonly namespaced: boolean;
  readonly verbs: readonly string[];
  readonly shortNames: readonly string[];
  readonly categories: readonly string[];
  readonly subresources: readonly Subresource[];
  readonly scale?: ScalePaths;
  readonly columns: readonly Column[];
  /** Field selectors beside `metadata.name` and `metadata.namespace`, such as `spec.nodeName`. */
  readonly selectableFields: readonly string[];
  /** `log`: the event log. `ephemeral`: the second stream (Leases, Events). `none`: never stored (reviews, bindings). */
  readonly storage: 'log' | 'ephemeral' | 'none';
  /** Top-level fields that are sealed before the object is appended (Secret: `data`). */
  readonly sealed: readonly string[];
  /** The rule that `metadata.name` obeys: a key of `formats` in formats.ts. Absent: `dns-1123-subdomain`. */
  readonly nameFormat?: 'dns-1123-subdomain' | 'dns-1123-label' | 'dns-1035-label' | 'path-segment';
  /** A PUT of an object that is not there makes it. Absent: it does not. */
  readonly createsOnUpdate?: boolean;
  /** A PUT must name the resourceVersion that it stands on. Absent: it may leave it out, and then overwrites what is there. */
  readonly updatesOnVersion?: boolean;
  /** Whether `metadata.generation` counts changes of anything but metadata and status. */
  readonly hasGeneration: boolean;
  readonly schema: Schema;
  /** Of a kind that a CustomResourceDefinition adds. */
  readonly custom?: CustomKind;
}

/** What sets a kind apart that was added at run time: its objects are decoded and checked as its author's schema says, not as Go would. */
export interface CustomKind {
  /** The name of the CustomResourceDefinition: `crontabs.stable.example.com`. */
  readonly definition: string;
  /** The version that objects are stored in, whichever they are written in. */
  readonly storageVersion: string;
  /** Of any version that the definition has, served or not. */
  readonly schemaOf: (version: string) => Schema | undefined;
  /** Absent where versions differ in nothing but their name. */
  readonly convert?: Convert;
  /** The definition is being deleted: nothing new is made. */
  readonly terminating: boolean;
  /** Aborted when this definition is replaced or withdrawn: watches that began under it end. */
  readonly retired?: AbortSignal;
  /** Told to everybody who uses this version. */
  readonly deprecation?: string;
  /** What the author demands of `metadata.name` and `metadata.generateName`. */
  readonly metadata?: Schema | undefined;
}

/** Makes of objects, each in some version of its kind, the same in the version that is named; in the same order. Rejects with a StatusError. */
export type Convert = (objects: readonly ApiObject[], version: string) => Promise<readonly ApiObject[]>;

/** Any API object, as JSON. */
export interface ApiObject {
  apiVersion: string;
  kind: string;
  metadata: ObjectMetadata;
  [field: string]: unknown;
}

/** The part of `metadata` that the machinery itself reads; times are RFC 3339. */
export interface ObjectMetadata {
  name: string;
  namespace?: string;
  generateName?: string;
  uid?: string;
  resourceVersion?: string;
  generation?: number;
  creationTimestamp?: string;
  deletionTimestamp?: string;
  deletionGracePeriodSeconds?: number;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
  finalizers?: string[];
  ownerReferences?: OwnerReference[];
  managedFields?: unknown[];
  [field: string]: unknown;
}

export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
  blockOwnerDeletion?: boolean;
}
