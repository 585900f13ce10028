/**
 * A conversion webhook as its author would run it: a real HTTPS server in this process, which converts between a version with `spec.hostPort` ("a:1") and one with `spec.host` and `spec.port`, and can be told to misbehave.
 */
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { issueCertificate } from '../../../cli/instance/certificates.ts';
import type { Teardown } from '../../harness/servers.ts';
import { authority, authorityCertificate, type Json } from '../api.ts';

/** What the webhook says in the place of the right answer: a ConversionReview, a status code, or nothing at all. */
export type Misbehaviour = (review: Json, converted: Json[]) => Json;

export interface Webhook {
  readonly url: string;
  readonly caBundle: string;
  readonly port: number;
  /** The requests so far, oldest first. */
  readonly reviews: Json[];
  misbehave: Misbehaviour | undefined;
  down(): Promise<void>;
  up(): Promise<void>;
}

export const HOST = 'conversion.default.svc';

export async function startWebhook(t: Teardown): Promise<Webhook> {
  const identity = { commonName: 'conversion', organizations: [], hosts: ['127.0.0.1', HOST] };
  const pair = issueCertificate(authority, identity, Date.now());
  const reviews: Json[] = [];
  let server: Server | undefined;
  let port = 0;
  const up = async () => {
    server = createServer(pair, (request, response) => {
      let text = '';
      request.on('data', (chunk: Buffer) => (text += chunk.toString()));
      request.on('end', () => {
        const review = JSON.parse(text) as Json;
        reviews.push(review);
        const answer = answerTo(review, webhook.misbehave);
        if (typeof answer === 'number') response.writeHead(answer).end('I am not well');
        else if (answer !== undefined) response.end(typeof answer === 'string' ? answer : JSON.stringify(answer));
      });
    });
    // Services reach it by an address of this machine that is not the loopback's.
    await new Promise<void>((resolve) => server?.listen(port, '0.0.0.0', resolve));
    port = (server.address() as AddressInfo).port;
  };
  const down = async () => {
    const closed = new Promise((resolve) => server?.close(resolve));
    server?.closeAllConnections();
    await closed;
  };
  await up();
  t.teardown(down);
  const webhook: Webhook = {
    url: `https://127.0.0.1:${port}/convert`,
    caBundle: Buffer.from(authorityCertificate).toString('base64'),
    port,
    reviews,
    misbehave: undefined,
    up,
    down,
  };
  return webhook;
}

function answerTo(review: Json, misbehave: Misbehaviour | undefined): Json {
  const { uid, desiredAPIVersion, objects } = review.request;
  const converted = (structuredClone(objects) as Json[]).map((object) => convert(object, desiredAPIVersion as string));
  if (misbehave) return misbehave(review, converted);
  return reviewOf(uid, converted);
}

export const reviewOf = (uid: string, convertedObjects: Json[], result: object = { status: 'Success' }): Json => ({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'ConversionReview',
  response: { uid, convertedObjects, result },
});

function convert(object: Json, apiVersion: string): Json {
  const { spec = {} } = object;
  if (apiVersion.endsWith('/v2')) {
    const { hostPort, ...rest } = spec;
    const [host, port] = typeof hostPort === 'string' ? hostPort.split(':') : [];
    return { ...object, apiVersion, spec: { ...rest, ...(host && { host }), ...(port && { port }) } };
  }
  const { host, port, ...rest } = spec;
  const hostPort = host === undefined && port === undefined ? {} : { hostPort: `${host ?? ''}:${port ?? ''}` };
  return { ...object, apiVersion, spec: { ...rest, ...hostPort } };
}
