/**
 * The one catalogue of what the API server answers when it refuses: reason → HTTP code → `Status` body, as in
 * https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/. Every other file throws these.
 */

/** One fault of an object, as it stands in `details.causes`. */
export interface Cause {
  readonly reason: string;
  readonly message: string;
  /** Field path such as `spec.template.spec.containers[0].name`. */
  readonly field?: string;
}

export interface StatusDetails {
  readonly name?: string;
  readonly group?: string;
  readonly kind?: string;
  readonly uid?: string;
  readonly causes?: readonly Cause[];
  readonly retryAfterSeconds?: number;
  /** Of a transaction: what stands against each member, with a Status of its own. */
  readonly refusals?: readonly unknown[];
}

/** The `Status` object of meta/v1. */
export interface Status {
  readonly kind: 'Status';
  readonly apiVersion: 'v1';
  readonly metadata: Record<string, unknown>;
  readonly status: 'Success' | 'Failure';
  readonly message?: string;
  readonly reason?: string;
  readonly details?: StatusDetails;
  readonly code: number;
}

const CODES = {
  BadRequest: 400,
  Unauthorized: 401,
  Forbidden: 403,
  NotFound: 404,
  MethodNotAllowed: 405,
  NotAcceptable: 406,
  AlreadyExists: 409,
  Conflict: 409,
  Expired: 410,
  RequestEntityTooLarge: 413,
  UnsupportedMediaType: 415,
  Invalid: 422,
  TooManyRequests: 429,
  InternalError: 500,
  Unknown: 500,
  ServiceUnavailable: 503,
  Timeout: 504,
} as const;

export type Reason = keyof typeof CODES;

/** A refusal on its way to the client; the server turns it into the response, whatever threw it. */
export class StatusError extends Error {
  override readonly name = 'StatusError';
  readonly reason: Reason;
  readonly details: StatusDetails | undefined;
  /** Of a list that cannot go on as it began: where another one can. */
  readonly continueToken: string | undefined;
  constructor(
    reason: Reason,
    message: string,
    details?: StatusDetails,
    options?: ErrorOptions & { readonly continueToken?: string },
  ) {
    super(message, options);
    this.reason = reason;
    this.details = details;
    this.continueToken = options?.continueToken;
  }
  get code(): number {
    return CODES[this.reason];
  }
  status(): Status {
    return {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: this.continueToken === undefined ? {} : { continue: this.continueToken },
      status: 'Failure',
      message: this.message,
      // Kubernetes has no word for it.
      ...(this.reason !== 'Unknown' && { reason: this.reason }),
      ...(this.details && { details: this.details }),
      code: this.code,
    };
  }
}

/** What an error is about: enough of a ResourceDefinition to name it. */
export interface Subject {
  readonly group: string;
  readonly resource: string;
  readonly kind?: string;
}

/** `deployments.apps`, or `pods` in the core group. */
export const qualified = (name: string, group: string): string => (group === '' ? name : `${name}.${group}`);

const aboutResource = (subject: Subject, name: string): StatusDetails => ({
  name,
  ...(subject.group !== '' && { group: subject.group }),
  kind: subject.resource,
});

export const badRequest = (message: string, options?: ErrorOptions) =>
  new StatusError('BadRequest', message, undefined, options);

export const unauthorized = () => new StatusError('Unauthorized', 'Unauthorized');

export const forbidden = (subject: Subject, name: string, why: string, causes?: readonly Cause[]) =>
  new StatusError('Forbidden', `${qualified(subject.resource, subject.group)} "${name}" is forbidden: ${why}`, {
    ...aboutResource(subject, name),
    ...(causes && { causes }),
  });

export const notFound = (subject: Subject, name: string) =>
  new StatusError(
    'NotFound',
    `${qualified(subject.resource, subject.group)} "${name}" not found`,
    aboutResource(subject, name),
  );

export const noSuchPath = () => new StatusError('NotFound', 'the server could not find the requested resource', {});

export const methodNotAllowed = (method: string, why?: string) =>
  new StatusError(
    'MethodNotAllowed',
    why === undefined
      ? `the server does not allow this method on the requested resource: ${method}`
      : `${method} ${why}`,
  );

export const notAcceptable = (offered: readonly string[]) =>
  new StatusError('NotAcceptable', `only the following media types are accepted: ${offered.join(', ')}`);

export const unsupportedMediaType = (contentType: string, offered: readonly string[]) =>
  new StatusError(
    'UnsupportedMediaType',
    `the body of the request was in an unknown format - accepted media types include: ${offered.join(', ')}${contentType ? ` (not ${contentType})` : ''}`,
  );

export const alreadyExists = (subject: Subject, name: string) =>
  new StatusError(
    'AlreadyExists',
    `${qualified(subject.resource, subject.group)} "${name}" already exists`,
    aboutResource(subject, name),
  );

export const conflict = (subject: Subject, name: string, why: string, causes?: readonly Cause[]) =>
  new StatusError(
    'Conflict',
    `Operation cannot be fulfilled on ${qualified(subject.resource, subject.group)} "${name}": ${why}`,
    {
      ...aboutResource(subject, name),
      ...(causes && { causes }),
    },
  );

export const staleWrite = (subject: Subject, name: string) =>
  conflict(
    subject,
    name,
    'the object has been modified; please apply your changes to the latest version and try again',
  );

export const invalid = (subject: Subject & { kind: string }, name: string, causes: readonly Cause[]) => {
  const faults = causes.map((cause) => (cause.field ? `${cause.field}: ${cause.message}` : cause.message));
  const list = faults.length === 1 ? faults[0] : `[${faults.join(', ')}]`;
  return new StatusError('Invalid', `${qualified(subject.kind, subject.group)} "${name}" is invalid: ${list}`, {
    ...(name !== '' && { name }),
    ...(subject.group !== '' && { group: subject.group }),
    kind: subject.kind,
    causes,
  });
};

/** An option of the request itself that cannot be, such as `dryRun` of the `CreateOptions`. */
export const invalidOption = (options: string, cause: Cause) =>
  invalid({ group: 'meta.k8s.io', resource: '', kind: options }, '', [cause]);

export const tooLarge = (message: string) => new StatusError('RequestEntityTooLarge', message);

export const tooManyRequests = (retryAfterSeconds: number) =>
  new StatusError('TooManyRequests', 'Too many requests, please try again later.', { retryAfterSeconds });

/** A revision that the log has not come to. */
export const futureRevision = (wanted: number, current: number) =>
  new StatusError('Timeout', `Timeout: Too large resource version: ${wanted}, current: ${current}`, {
    causes: [{ reason: 'ResourceVersionTooLarge', message: 'Too large resource version' }],
    retryAfterSeconds: 1,
  });

export const expired = (message: string, options?: { readonly continueToken: string }) =>
  new StatusError('Expired', message, undefined, options);

export const unavailable = (message: string, options?: ErrorOptions) =>
  new StatusError('ServiceUnavailable', message, { retryAfterSeconds: 1 }, options);

export const internal = (message: string, options?: ErrorOptions) =>
  new StatusError('InternalError', `Internal error occurred: ${message}`, undefined, options);

/** The body of a delete that left nothing behind. */
export const success = (details: StatusDetails): Status => ({
  kind: 'Status',
  apiVersion: 'v1',
  metadata: {},
  status: 'Success',
  details,
  code: 200,
});
