/**
 * Which rule in code belongs to which type. Read by `constraints.ts`. What CEL can say exactly stands in the schema; a rule is code where it compares quantities, matches selectors, or has to point at the very item
 * that is wrong. To add one: write it in the file of its subject and name its type here.
 */
import { customResourceDefinition } from '../../custom-resources/definition-rules.ts';
import { configMap, namespaceSpec, secret } from './configuration.ts';
import { csiDriverSpec, csiNode, podOverhead, volumeAttachmentSpec } from './csi.ts';
import { job, jobSpec, jobTemplateSpec } from './jobs.ts';
import { labelSelector } from './label-selector.ts';
import { ingressBackend, ingressClassSpec, ipBlock } from './networking.ts';
import { podSpec, podTemplate } from './pod-spec.ts';
import { podUpdate } from './pod-update.ts';
import { limitRangeItem, limitRangeSpec, resourceQuotaSpec } from './quotas.ts';
import { clusterRole, clusterRoleBinding, role, roleBinding } from './rbac.ts';
import type { Rule } from './rule.ts';
import { endpointSlice, serviceSpec } from './services.ts';
import { claimSpec, persistentVolumeSpec } from './storage.ts';
import {
  cronJobSpec,
  daemonSetSpec,
  deploymentSpec,
  replicaSetSpec,
  replicationControllerSpec,
  statefulSetSpec,
} from './workloads.ts';

export const rules: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition', customResourceDefinition],
  ['io.k8s.api.core.v1.ConfigMap', configMap],
  ['io.k8s.api.core.v1.Secret', secret],
  ['io.k8s.api.core.v1.NamespaceSpec', namespaceSpec],
  ['io.k8s.api.core.v1.Pod', podUpdate],
  ['io.k8s.api.core.v1.PodSpec', podSpec],
  ['io.k8s.api.core.v1.PodTemplateSpec', podTemplate],
  ['io.k8s.api.core.v1.ReplicationControllerSpec', replicationControllerSpec],
  ['io.k8s.api.core.v1.ResourceQuotaSpec', resourceQuotaSpec],
  ['io.k8s.api.core.v1.LimitRangeItem', limitRangeItem],
  ['io.k8s.api.core.v1.LimitRangeSpec', limitRangeSpec],
  ['io.k8s.api.core.v1.ServiceSpec', serviceSpec],
  ['io.k8s.api.core.v1.PersistentVolumeClaimSpec', claimSpec],
  ['io.k8s.api.core.v1.PersistentVolumeSpec', persistentVolumeSpec],
  ['io.k8s.api.apps.v1.DeploymentSpec', deploymentSpec],
  ['io.k8s.api.apps.v1.ReplicaSetSpec', replicaSetSpec],
  ['io.k8s.api.apps.v1.StatefulSetSpec', statefulSetSpec],
  ['io.k8s.api.apps.v1.DaemonSetSpec', daemonSetSpec],
  ['io.k8s.api.batch.v1.Job', job],
  ['io.k8s.api.batch.v1.JobSpec', jobSpec],
  ['io.k8s.api.batch.v1.JobTemplateSpec', jobTemplateSpec],
  ['io.k8s.api.batch.v1.CronJobSpec', cronJobSpec],
  ['io.k8s.api.discovery.v1.EndpointSlice', endpointSlice],
  ['io.k8s.api.networking.v1.IngressBackend', ingressBackend],
  ['io.k8s.api.networking.v1.IngressClassSpec', ingressClassSpec],
  ['io.k8s.api.networking.v1.IPBlock', ipBlock],
  ['io.k8s.api.rbac.v1.ClusterRole', clusterRole],
  ['io.k8s.api.rbac.v1.ClusterRoleBinding', clusterRoleBinding],
  ['io.k8s.api.rbac.v1.Role', role],
  ['io.k8s.api.rbac.v1.RoleBinding', roleBinding],
  ['io.k8s.api.node.v1.Overhead', podOverhead],
  ['io.k8s.api.storage.v1.CSIDriverSpec', csiDriverSpec],
  ['io.k8s.api.storage.v1.CSINode', csiNode],
  ['io.k8s.api.storage.v1.VolumeAttachmentSpec', volumeAttachmentSpec],
  ['io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector', labelSelector],
]);
