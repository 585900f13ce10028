/** The cells of claims, volumes, storage classes and drivers. Follows `pkg/printers/internalversion`. */
import { at, listAt, textAt, UNSET, type Cell, type JsonObject } from './reading.ts';

const SHORT_MODES: Readonly<Record<string, string>> = {
  ReadWriteOnce: 'RWO',
  ReadOnlyMany: 'ROX',
  ReadWriteMany: 'RWX',
  ReadWriteOncePod: 'RWOP',
};

/** In Kubernetes' fixed order, each once. */
const accessModes = (modes: readonly unknown[]): string =>
  Object.keys(SHORT_MODES)
    .filter((mode) => modes.includes(mode))
    .map((mode) => SHORT_MODES[mode])
    .join(',');

const phase = (object: JsonObject): string =>
  at(object, 'metadata', 'deletionTimestamp') === undefined ? textAt(object, 'status', 'phase') : 'Terminating';

const isBound = (claim: JsonObject): boolean => textAt(claim, 'spec', 'volumeName') !== '';

export const storageCells: Readonly<Record<string, Cell>> = {
  claimStatus: ({ object }) => phase(object),
  claimCapacity: ({ object }) => (isBound(object) ? textAt(object, 'status', 'capacity', 'storage') : ''),
  claimAccessModes: ({ object }) => (isBound(object) ? accessModes(listAt(object, 'status', 'accessModes')) : ''),
  accessModes: ({ object }) => accessModes(listAt(object, 'spec', 'accessModes')),
  storageClass: ({ object }) =>
    textAt(object, 'metadata', 'annotations', 'volume.beta.kubernetes.io/storage-class') ||
    textAt(object, 'spec', 'storageClassName'),
  volumeAttributesClass: ({ object }) => textAt(object, 'spec', 'volumeAttributesClassName') || UNSET,
  volumeMode: ({ object }) => textAt(object, 'spec', 'volumeMode') || UNSET,
  volumeStatus: ({ object }) => phase(object),
  volumeClaim: ({ object }) => {
    const name = textAt(object, 'spec', 'claimRef', 'name');
    return name === '' ? '' : `${textAt(object, 'spec', 'claimRef', 'namespace')}/${name}`;
  },
  storageClassReclaimPolicy: ({ object }) => textAt(object, 'reclaimPolicy') || 'Delete',
  storageClassBindingMode: ({ object }) => textAt(object, 'volumeBindingMode') || 'Immediate',
  storageClassExpansion: ({ object }) => at(object, 'allowVolumeExpansion') === true,
  driverTokenRequests: ({ object }) =>
    listAt(object, 'spec', 'tokenRequests')
      .map((each) => textAt(each, 'audience'))
      .join(',') || UNSET,
  driverModes: ({ object }) => listAt(object, 'spec', 'volumeLifecycleModes').map(String).join(','),
  driverCount: ({ object }) => listAt(object, 'spec', 'drivers').length,
};
