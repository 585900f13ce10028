/** Priority classes, of which one at most is the default; and Ingresses, which take the default class. */
import type { ApiObject } from '../../api-schemas/schema.ts';
import type { Ingress } from '../../api-schemas/types/networking-v1.ts';
import type { PriorityClass } from '../../api-schemas/types/scheduling-v1.ts';
import { defaultClass } from '../policy/default-class.ts';
import { checkPriorityClass } from '../policy/priority.ts';
import type { Kind } from './kinds.ts';

const INGRESS_CLASSES = {
  group: 'networking.k8s.io',
  resource: 'ingressclasses',
  mark: 'ingressclass.kubernetes.io/is-default-class',
};
/** How Ingresses named their class before there was a field for it. */
const OLD_CLASS = 'kubernetes.io/ingress.class';

export const priorityClasses: Kind = {
  admit: (object, _old, call) => checkPriorityClass(object as PriorityClass & ApiObject, call),
};

export const ingresses: Kind = {
  prepareCreate(object, call) {
    const ingress = object as Ingress & ApiObject;
    if (ingress.spec?.ingressClassName || ingress.metadata.annotations?.[OLD_CLASS] !== undefined) return;
    const ingressClassName = defaultClass(call, INGRESS_CLASSES);
    if (ingressClassName !== undefined) ingress.spec = { ...ingress.spec, ingressClassName };
  },
};
