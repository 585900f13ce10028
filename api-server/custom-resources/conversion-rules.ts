/**
 * What `spec.conversion` of a CustomResourceDefinition must say: for webhooks, where one is and which reviews it understands. Called by `definition-rules.ts`; follows apiserver's `pkg/util/webhook/validation.go`.
 */
import { X509Certificate } from 'node:crypto';
import { duplicate, forbidden, invalid, required, type Fault } from '../admission/fault.ts';
import { dns1035Label, dns1123Subdomain } from '../admission/names.ts';
import { objectAt, textAt, type JsonObject } from '../admission/rules/rule.ts';
import { REVIEW_VERSIONS } from './conversion-webhook.ts';

const URL_FORM = 'desired format: https://host[/path]';

export function conversionFaults(conversion: JsonObject, path: string): Fault[] {
  const at = `${path}.webhook`;
  if (conversion['strategy'] !== 'Webhook')
    return conversion['webhook'] === undefined
      ? []
      : [forbidden(at, 'should not be set when strategy is not set to Webhook')];
  if (conversion['webhook'] === undefined)
    return [
      required(`${at}.clientConfig`, 'required when strategy is set to Webhook'),
      required(`${at}.conversionReviewVersions`, 'required when strategy is set to Webhook'),
    ];
  const { clientConfig, conversionReviewVersions } = objectAt(conversion['webhook']);
  const versions = Array.isArray(conversionReviewVersions) ? conversionReviewVersions.map(textAt) : [];
  return [
    ...(clientConfig === undefined
      ? [required(`${at}.clientConfig`, 'required when strategy is set to Webhook')]
      : clientFaults(objectAt(clientConfig), `${at}.clientConfig`)),
    ...reviewVersionFaults(versions, `${at}.conversionReviewVersions`),
  ];
}

function reviewVersionFaults(versions: readonly string[], path: string): Fault[] {
  if (versions.length === 0) return [required(path, 'name at least one version of ConversionReview')];
  const faults = versions.flatMap((version, index) => [
    ...dns1035Label(version).map((says) => invalid(`${path}[${index}]`, version, says)),
    ...(versions.indexOf(version) < index ? [duplicate(`${path}[${index}]`, version)] : []),
  ]);
  if (!versions.some((version) => (REVIEW_VERSIONS as readonly string[]).includes(version)))
    faults.push(invalid(path, versions, `must include at least one of ${REVIEW_VERSIONS.join(', ')}`));
  return faults;
}

function clientFaults({ url, service, caBundle }: JsonObject, path: string): Fault[] {
  const faults: Fault[] = [];
  if ((url === undefined) === (service === undefined))
    faults.push(required(path, 'exactly one of url or service is required'));
  else if (url !== undefined) faults.push(...urlFaults(textAt(url), `${path}.url`));
  else faults.push(...serviceFaults(objectAt(service), `${path}.service`));
  if (typeof caBundle === 'string' && caBundle !== '') faults.push(...bundleFaults(caBundle, `${path}.caBundle`));
  return faults;
}

function urlFaults(url: string, path: string): Fault[] {
  if (!URL.canParse(url)) return [invalid(path, url, `url must be a valid URL; ${URL_FORM}`)];
  const { protocol, hostname, username, password, hash, search } = new URL(url);
  const wrong = (holds: boolean, says: string): Fault[] => (holds ? [invalid(path, url, says)] : []);
  return [
    ...wrong(protocol !== 'https:', `'https' is the only allowed URL scheme; ${URL_FORM}`),
    ...wrong(hostname === '', `host must be specified; ${URL_FORM}`),
    ...wrong(username !== '' || password !== '', 'user information is not permitted in the URL'),
    ...wrong(hash !== '', 'fragments are not permitted in the URL'),
    ...wrong(search !== '', 'query parameters are not permitted in the URL'),
  ];
}

function serviceFaults({ name, namespace, path: route }: JsonObject, path: string): Fault[] {
  const faults: Fault[] = [];
  if (name === '') faults.push(required(`${path}.name`, 'service name is required'));
  if (namespace === '') faults.push(required(`${path}.namespace`, 'service namespace is required'));
  if (typeof route !== 'string' || route === '' || route === '/') return faults;
  const at = `${path}.path`;
  if (!route.startsWith('/')) faults.push(invalid(at, route, "must start with a '/'"));
  const steps = route.replace(/^\/|\/$/g, '').split('/');
  for (const [index, step] of steps.entries()) {
    if (step === '') faults.push(invalid(at, route, `segment[${index}] may not be empty`));
    else faults.push(...dns1123Subdomain(step).map((says) => invalid(at, route, `segment[${index}]: ${says}`)));
  }
  return faults;
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

/** Undecodable base64 is told of by the format of the field. */
function bundleFaults(bundle: string, path: string): Fault[] {
  const certificates = Buffer.from(bundle, 'base64').toString().match(CERTIFICATE) ?? [];
  try {
    for (const certificate of certificates) new X509Certificate(certificate);
    if (certificates.length > 0) return [];
  } catch {
    // Told of below: what the library says names its own parts.
  }
  return [invalid(path, '[REDACTED]', 'unable to load root certificates: expected certificates in PEM')];
}
