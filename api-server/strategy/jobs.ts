/**
 * A Job tells its pods from all others by its own uid, unless its author says how (`manualSelector`).
 * https://kubernetes.io/docs/concepts/workloads/controllers/job/#specifying-your-own-pod-selector
 */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Job } from '../../api-schemas/types/batch-v1.ts';
import { labelLikeTemplate } from '../admission/derived-defaults.ts';
import type { Kind } from './kinds.ts';

const UID_LABEL = 'batch.kubernetes.io/controller-uid';

export const jobs: Kind = {
  prepareCreate(object) {
    selectByUid(object);
    labelLikeTemplate(object);
  },
  prepareUpdate: labelLikeTemplate,
};

function selectByUid(object: ApiObject): void {
  const { metadata, spec } = object as Job & typeof object;
  if (!metadata.name || !spec?.template || spec.manualSelector === true) return;
  const uid = metadata.uid ?? '';
  const labels = {
    'controller-uid': uid,
    'job-name': metadata.name,
    [UID_LABEL]: uid,
    'batch.kubernetes.io/job-name': metadata.name,
  };
  spec.template.metadata = { ...spec.template.metadata, labels: { ...labels, ...spec.template.metadata?.labels } };
  spec.selector = { ...spec.selector, matchLabels: { [UID_LABEL]: uid, ...spec.selector?.matchLabels } };
}
