/**
 * HorizontalPodAutoscalers of autoscaling/v1: a target for the processor alone, and annotations for whatever else the stored autoscaling/v2 says. Follows `pkg/apis/autoscaling/v1/conversion.go`.
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { HorizontalPodAutoscaler as V1 } from '../../api-schemas/types/autoscaling-v1.ts';
import type {
  HorizontalPodAutoscaler as V2,
  HorizontalPodAutoscalerSpec,
  HorizontalPodAutoscalerStatus,
  MetricSpec,
  MetricStatus,
} from '../../api-schemas/types/autoscaling-v2.ts';
import type { Conversion } from './conversions.ts';

type Json = Record<string, unknown>;

const PREFIX = 'autoscaling.alpha.kubernetes.io/';
const METRICS = `${PREFIX}metrics`;
const CURRENT_METRICS = `${PREFIX}current-metrics`;
const CONDITIONS = `${PREFIX}conditions`;
const BEHAVIOR = `${PREFIX}behavior`;
const OURS = [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR];

/** The metric that v1 has a field for. */
const isProcessor = ({ type, resource }: { type: string; resource?: { name: string } }): boolean =>
  type === 'Resource' && resource?.name === 'cpu';

const present = (values: Json): Json =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));

/** A metric's target as the annotation writes it, and back. The annotation names each kind of amount by a field of its own. */
function flat(metric: MetricSpec): Json {
  const { type, resource, containerResource, pods, object, external } = metric;
  const source = resource ?? containerResource;
  const parts: Json = { type };
  if (source)
    parts[resource ? 'resource' : 'containerResource'] = present({
      name: source.name,
      container: containerResource?.container,
      targetAverageUtilization: source.target.averageUtilization,
      targetAverageValue: source.target.averageValue,
    });
  if (pods)
    parts['pods'] = present({
      metricName: pods.metric.name,
      selector: pods.metric.selector,
      targetAverageValue: pods.target.averageValue,
    });
  if (object)
    parts['object'] = present({
      target: object.describedObject,
      metricName: object.metric.name,
      selector: object.metric.selector,
      targetValue: object.target.value ?? '0',
      averageValue: object.target.averageValue,
    });
  if (external)
    parts['external'] = present({
      metricName: external.metric.name,
      metricSelector: external.metric.selector,
      targetValue: external.target.value,
      targetAverageValue: external.target.averageValue,
    });
  return parts;
}

const metricOf = ({ metricName, selector, metricSelector }: Json): Json =>
  present({ name: metricName, selector: selector ?? metricSelector });

function targetOf({ targetAverageUtilization, targetAverageValue, averageValue, targetValue }: Json): Json {
  if (targetAverageUtilization !== undefined)
    return { type: 'Utilization', averageUtilization: targetAverageUtilization };
  const average = targetAverageValue ?? averageValue;
  return average !== undefined
    ? { type: 'AverageValue', averageValue: average }
    : { type: 'Value', value: targetValue };
}

function deep({ type, resource, containerResource, pods, object, external }: Record<string, Json>): MetricSpec {
  const target = (source: Json): Json => ({ target: targetOf(source) });
  const metric = present({
    type,
    resource: resource && { name: resource['name'], ...target(resource) },
    containerResource: containerResource && {
      name: containerResource['name'],
      container: containerResource['container'],
      ...target(containerResource),
    },
    pods: pods && { metric: metricOf(pods), ...target(pods) },
    object: object && { describedObject: object['target'], metric: metricOf(object), ...target(object) },
    external: external && { metric: metricOf(external), ...target(external) },
  });
  return metric as unknown as MetricSpec;
}

/** What an annotation holds; undefined where it is none, or is no JSON: then it is left as it was. */
function read<T>(annotations: Readonly<Record<string, string>>, name: string): T | undefined {
  try {
    return JSON.parse(annotations[name] ?? '') as T;
  } catch {
    return undefined;
  }
}

export const autoscalingV1: Conversion = {
  stored: { group: 'autoscaling', version: 'v2', resource: 'horizontalpodautoscalers' },
  toStored(given) {
    const object = given as V1 & ApiObject;
    const annotations = object.metadata.annotations ?? {};
    // What is applied may say little.
    const { targetCPUUtilizationPercentage, ...spec } = (object.spec ?? {}) as Partial<V1['spec']>;
    const { currentCPUUtilizationPercentage, ...status } = object.status ?? {};
    const others = (read<Record<string, Json>[]>(annotations, METRICS) ?? []).map(deep);
    const processor: MetricSpec[] =
      targetCPUUtilizationPercentage === undefined
        ? []
        : [
            {
              type: 'Resource',
              resource: {
                name: 'cpu',
                target: { type: 'Utilization', averageUtilization: targetCPUUtilizationPercentage },
              },
            },
          ];
    const behavior = read<HorizontalPodAutoscalerSpec['behavior']>(annotations, BEHAVIOR);
    const conditions = read<HorizontalPodAutoscalerStatus['conditions']>(annotations, CONDITIONS);
    const current = read<MetricStatus[]>(annotations, CURRENT_METRICS) ?? [];
    const used: MetricStatus[] =
      currentCPUUtilizationPercentage === undefined
        ? []
        : [
            {
              type: 'Resource',
              resource: { name: 'cpu', current: { averageUtilization: currentCPUUtilizationPercentage } },
            },
          ];
    const metrics = [...others, ...processor];
    const currentMetrics = [...current, ...used];
    return {
      ...object,
      apiVersion: 'autoscaling/v2',
      metadata: withAnnotations(object, {}),
      spec: { ...spec, ...(metrics.length > 0 && { metrics }), ...(behavior && { behavior }) },
      ...((object.status || currentMetrics.length > 0 || conditions) && {
        status: { ...status, ...(currentMetrics.length > 0 && { currentMetrics }), ...(conditions && { conditions }) },
      }),
    };
  },
  fromStored(given) {
    const object = given as V2 & ApiObject;
    const { metrics = [], behavior, ...spec } = (object.spec ?? {}) as Partial<V2['spec']>;
    const { currentMetrics = [], conditions, ...status } = object.status ?? {};
    const processor = metrics.find((metric) => isProcessor(metric) && metric.resource?.target.averageUtilization);
    const used = currentMetrics.find((metric) => isProcessor(metric) && metric.resource?.current.averageUtilization);
    const others = metrics.filter((metric) => metric !== processor);
    const current = currentMetrics.filter((metric) => metric !== used);
    const target = processor?.resource?.target.averageUtilization;
    const utilization = used?.resource?.current.averageUtilization;
    return {
      ...object,
      apiVersion: 'autoscaling/v1',
      metadata: withAnnotations(object, {
        ...(others.length > 0 && { [METRICS]: JSON.stringify(others.map(flat)) }),
        ...(current.length > 0 && { [CURRENT_METRICS]: JSON.stringify(current) }),
        ...(conditions && { [CONDITIONS]: JSON.stringify(conditions) }),
        ...(behavior && { [BEHAVIOR]: JSON.stringify(behavior) }),
      }),
      spec: { ...spec, ...(target !== undefined && { targetCPUUtilizationPercentage: target }) },
      status: {
        currentReplicas: 0,
        ...status,
        ...(utilization !== undefined && { currentCPUUtilizationPercentage: utilization }),
      },
    };
  },
};

/** The object's metadata with these in the place of the annotations that stand for parts of v2. */
function withAnnotations({ metadata }: ApiObject, ours: Readonly<Record<string, string>>): ApiObject['metadata'] {
  const { annotations = {}, ...rest } = metadata;
  const others = Object.entries(annotations).filter(([name]) => !OURS.includes(name));
  const all = { ...Object.fromEntries(others), ...ours };
  return Object.keys(all).length > 0 ? { ...rest, annotations: all } : (rest as ApiObject['metadata']);
}
